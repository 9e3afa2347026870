// The published way: SO_REUSEPORT, a locked thread, preallocated buffers, one read and one write
// per packet.
package main

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"syscall"

	"edge.bench/relay/hop"
)

func main() {
	transceivers := hop.Transceivers()
	internal := hop.ListenInternal()
	public := hop.ListenPublic()
	runtime.LockOSThread()

	flows := make(map[netip.AddrPort]int32, 1<<14)
	row := make([]byte, hop.RowStride)
	payload := row[hop.RowHeadBytes:]
	for {
		size, client, err := public.ReadFromUDPAddrPort(payload)
		if err != nil {
			panic(err)
		}
		if size == 0 {
			continue
		}
		var owner int32
		var known bool
		if payload[0] <= 3 {
			if owner, known = hop.ReadOwner(payload[:size], len(transceivers)); known {
				flows[client] = owner
			}
		} else {
			owner, known = flows[client]
		}
		if !known {
			continue
		}
		address := client.Addr().As4()
		binary.NativeEndian.PutUint16(row[0:], syscall.AF_INET)
		binary.BigEndian.PutUint16(row[2:], client.Port())
		copy(row[4:8], address[:])
		binary.LittleEndian.PutUint16(row[hop.AddressBytes:], uint16(size))
		_, _ = internal.WriteToUDPAddrPort(row[:hop.RowHeadBytes+size], transceivers[owner])
	}
}
