// Package hop is what both Go peers share: the row layout of the internal hop, and the little of
// STUN that names a transceiver.
package hop

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
)

const (
	AddressBytes = 28
	RowHeadBytes = 32 // address, length (16 bits), flags (16 bits)
	RowStride    = 1600

	receiveBufferBytes = 4 << 20
	soReusePort        = 15
	soReceiveForce     = 33
)

// Transceivers returns the addresses whose ports the command line names.
func Transceivers() []netip.AddrPort {
	var all []netip.AddrPort
	for _, text := range os.Args[1:] {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			panic(err)
		}
		all = append(all, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port)))
	}
	return all
}

// ListenPublic opens the SO_REUSEPORT socket and says on which port.
func ListenPublic() *net.UDPConn {
	listen := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soReusePort, 1)
			if syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soReceiveForce, receiveBufferBytes) != nil {
				_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBufferBytes)
			}
		})
		if err != nil {
			return err
		}
		return failed
	}}
	conn, err := listen.ListenPacket(context.Background(), "udp4", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	public := conn.(*net.UDPConn)
	fmt.Println("ready", public.LocalAddr().(*net.UDPAddr).Port)
	return public
}

// ListenInternal opens the socket that transceivers are sent to from.
func ListenInternal() *net.UDPConn {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		panic(err)
	}
	return conn
}

// ReadOwner reads the transceiver's number out of a STUN request's USERNAME, "t0:...".
func ReadOwner(data []byte, count int) (int32, bool) {
	for offset := 20; offset+4 <= len(data); {
		kind := binary.BigEndian.Uint16(data[offset:])
		length := int(binary.BigEndian.Uint16(data[offset+2:]))
		value := offset + 4
		if value+length > len(data) {
			break
		}
		if kind == 6 && length > 1 && data[value] == 't' {
			owner := int32(0)
			for _, digit := range data[value+1 : value+length] {
				if digit == ':' {
					break
				}
				owner = owner*10 + int32(digit-'0')
			}
			return owner, owner >= 0 && owner < int32(count)
		}
		offset = value + (length+3)&^3
	}
	return 0, false
}
