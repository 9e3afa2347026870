/* What the bench's C programs share: the internal hop's layout (edge/routing/frames.py). */
#ifndef WIRE_H
#define WIRE_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
    ADDRESS_BYTES = 28,
    ROW_HEAD_BYTES = 32, /* address, length (16 bits), flags (16 bits) */
    ROW_STRIDE = 1600,
    BATCH_ROWS = 128, /* as ours */
    FRAME_HEAD_BYTES = 8, /* magic, kind, socket, relay, rows (16 bits), zero (16 bits) */
    FRAME_BYTES_MAX = 65507,
    MAGIC = 0xE1,
    KIND_PACKETS = 1,
    KIND_CONFIRM = 2,
    FLAG_UNCONFIRMED = 1,
    TRANSCEIVERS_MAX = 16,
    RECEIVE_BUFFER_BYTES = 4 << 20,
};

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

static inline struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now))
        die("clock_gettime");
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void enlarge_receive_buffer(int fd)
{
    int wanted = RECEIVE_BUFFER_BYTES;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &wanted, sizeof wanted))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &wanted, sizeof wanted);
}

#endif
