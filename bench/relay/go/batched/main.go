// Go with recvmmsg and sendmmsg: batches in, one datagram per packet out, through the runtime's
// poller as golang.org/x/net does it.
package main

import (
	"encoding/binary"
	"runtime"
	"syscall"
	"unsafe"

	"edge.bench/relay/hop"
)

const batchRows = 128 // as ours

type message struct {
	header syscall.Msghdr
	size   uint32
	_      uint32
}

type client [hop.AddressBytes]byte

func numbers() (receive, send uintptr) {
	switch runtime.GOARCH {
	case "amd64":
		return 299, 307
	case "arm64":
		return 243, 269
	}
	panic("no system call numbers for " + runtime.GOARCH)
}

func main() {
	transceivers := hop.Transceivers()
	names := make([]syscall.RawSockaddrInet4, len(transceivers))
	for i, address := range transceivers {
		names[i] = syscall.RawSockaddrInet4{Family: syscall.AF_INET, Addr: address.Addr().As4()}
		port := (*[2]byte)(unsafe.Pointer(&names[i].Port))
		binary.BigEndian.PutUint16(port[:], address.Port())
	}
	internal, err := hop.ListenInternal().SyscallConn()
	if err != nil {
		panic(err)
	}
	public, err := hop.ListenPublic().SyscallConn()
	if err != nil {
		panic(err)
	}
	runtime.LockOSThread()

	rows := make([][hop.RowStride]byte, batchRows)
	landing := make([]syscall.Iovec, batchRows)
	leaving := make([]syscall.Iovec, batchRows)
	incoming := make([]message, batchRows)
	outgoing := make([]message, batchRows)
	for i := range incoming {
		landing[i].Base = &rows[i][hop.RowHeadBytes]
		landing[i].SetLen(hop.RowStride - hop.RowHeadBytes)
		header := &incoming[i].header
		header.Name, header.Namelen = &rows[i][0], hop.AddressBytes
		header.Iov, header.Iovlen = &landing[i], 1
	}
	flows := make(map[client]int32, 1<<14)
	sysReceive, sysSend := numbers()
	var count, queued int
	receive := func(fd uintptr) bool {
		got, _, failed := syscall.Syscall6(sysReceive, fd, uintptr(unsafe.Pointer(&incoming[0])),
			batchRows, syscall.MSG_DONTWAIT, 0, 0)
		count = 0
		if failed == 0 {
			count = int(got)
		}
		return failed != syscall.EAGAIN
	}
	send := func(fd uintptr) bool {
		for done := 0; done < queued; {
			sent, _, failed := syscall.Syscall6(sysSend, fd, uintptr(unsafe.Pointer(&outgoing[done])),
				uintptr(queued-done), syscall.MSG_DONTWAIT, 0, 0)
			if failed != 0 || sent == 0 {
				sent = 1
			}
			done += int(sent)
		}
		return true
	}
	for {
		if err := public.Read(receive); err != nil {
			panic(err)
		}
		queued = 0
		for i := 0; i < count; i++ {
			row, size := &rows[i], int(incoming[i].size)
			payload := row[hop.RowHeadBytes : hop.RowHeadBytes+size]
			if size == 0 {
				continue
			}
			key := (*client)(unsafe.Pointer(&row[0]))
			var owner int32
			var known bool
			if payload[0] <= 3 {
				if owner, known = hop.ReadOwner(payload, len(transceivers)); known {
					flows[*key] = owner
				}
			} else {
				owner, known = flows[*key]
			}
			if !known {
				continue
			}
			binary.LittleEndian.PutUint16(row[hop.AddressBytes:], uint16(size))
			leaving[queued].Base = &row[0]
			leaving[queued].SetLen(hop.RowHeadBytes + size)
			header := &outgoing[queued].header
			header.Name = (*byte)(unsafe.Pointer(&names[owner]))
			header.Namelen = syscall.SizeofSockaddrInet4
			header.Iov, header.Iovlen = &leaving[queued], 1
			queued++
		}
		if err := internal.Write(send); err != nil {
			panic(err)
		}
	}
}
