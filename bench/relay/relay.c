/* The C peers: recvmmsg, one table look-up per packet, then one datagram per packet (sendmmsg) or
 * one gathered frame per batch and transceiver. What Python is measured against as the limit.
 *
 *   relay datagrams|frames TRANSCEIVER_PORT...
 *
 * Prints "ready PORT". A client's transceiver is the number after "t" in the USERNAME of its STUN
 * request; the table never forgets.
 */

#define _GNU_SOURCE
#include "wire.h"

#include <unistd.h>

enum { TABLE_SIZE = 1 << 16, UNKNOWN = -1 };

struct flow {
    uint8_t client[ADDRESS_BYTES];
    int32_t owner;
};

static struct flow table[TABLE_SIZE];
static uint8_t rows[BATCH_ROWS][ROW_STRIDE] __attribute__((aligned(64)));
static struct mmsghdr incoming[BATCH_ROWS], outgoing[BATCH_ROWS];
static struct iovec landing[BATCH_ROWS], leaving[BATCH_ROWS + 1];
static struct sockaddr_in transceivers[TRANSCEIVERS_MAX];
static int transceivers_count;
static uint64_t drops;

/* Eight bytes at a time, multiplied and folded: client addresses differ in few bits. */
static uint32_t slot_of(const uint8_t *client)
{
    uint64_t hash = 0x9E3779B97F4A7C15u;
    for (int offset = 0; offset < 24; offset += 8) {
        uint64_t word;
        memcpy(&word, client + offset, sizeof word);
        hash = (hash ^ word) * 0xFF51AFD7ED558CCDu;
        hash ^= hash >> 32;
    }
    return (uint32_t)hash & (TABLE_SIZE - 1);
}

static struct flow *find(const uint8_t *client)
{
    uint32_t slot = slot_of(client);
    while (table[slot].client[0] && memcmp(table[slot].client, client, ADDRESS_BYTES))
        slot = (slot + 1) & (TABLE_SIZE - 1);
    return &table[slot];
}

/* Find USERNAME in a STUN request and read the transceiver's number out of it. */
static int read_owner(const uint8_t *data, size_t size)
{
    for (size_t offset = 20; offset + 4 <= size;) {
        size_t kind = (size_t)(data[offset] << 8 | data[offset + 1]);
        size_t length = (size_t)(data[offset + 2] << 8 | data[offset + 3]);
        if (offset + 4 + length > size)
            break;
        if (kind == 6 && length > 1 && data[offset + 4] == 't') {
            int owner = 0;
            for (size_t i = 1; i < length && data[offset + 4 + i] != ':'; i++)
                owner = owner * 10 + (data[offset + 4 + i] - '0');
            return owner < transceivers_count ? owner : UNKNOWN;
        }
        offset += 4 + ((length + 3) & ~(size_t)3);
    }
    return UNKNOWN;
}

static int route(uint8_t *row, size_t size, int flags)
{
    const uint8_t *payload = row + ROW_HEAD_BYTES;
    if (!size || (flags & MSG_TRUNC))
        return UNKNOWN;
    if (payload[0] > 3) {
        const struct flow *flow = find(row);
        return flow->client[0] ? flow->owner : UNKNOWN;
    }
    int owner = read_owner(payload, size);
    if (owner != UNKNOWN) {
        struct flow *flow = find(row);
        memcpy(flow->client, row, ADDRESS_BYTES);
        flow->owner = owner;
    }
    return owner;
}

static void send_datagrams(int fd, const int *owners, int count)
{
    int queued = 0;
    for (int i = 0; i < count; i++) {
        if (owners[i] == UNKNOWN)
            continue;
        leaving[queued] = (struct iovec){rows[i], ROW_HEAD_BYTES + incoming[i].msg_len};
        outgoing[queued].msg_hdr = (struct msghdr){
            .msg_name = &transceivers[owners[i]],
            .msg_namelen = sizeof *transceivers,
            .msg_iov = &leaving[queued],
            .msg_iovlen = 1,
        };
        queued++;
    }
    for (int done = 0; done < queued;) {
        int sent = sendmmsg(fd, outgoing + done, (unsigned)(queued - done), MSG_DONTWAIT);
        if (sent <= 0) {
            drops++;
            done++;
        } else {
            done += sent;
        }
    }
}

static void send_frame(int fd, int owner, int parts)
{
    uint8_t head[FRAME_HEAD_BYTES] = {MAGIC, KIND_PACKETS, 0, 0, (uint8_t)(parts - 1), (uint8_t)((parts - 1) >> 8)};
    leaving[0] = (struct iovec){head, sizeof head};
    struct msghdr message = {
        .msg_name = &transceivers[owner],
        .msg_namelen = sizeof *transceivers,
        .msg_iov = leaving,
        .msg_iovlen = (size_t)parts,
    };
    if (sendmsg(fd, &message, MSG_DONTWAIT) < 0)
        drops += (uint64_t)parts - 1;
}

static void send_frames(int fd, const int *owners, int count)
{
    for (int owner = 0; owner < transceivers_count; owner++) {
        int parts = 1;
        size_t bytes = FRAME_HEAD_BYTES;
        for (int i = 0; i < count; i++) {
            if (owners[i] != owner)
                continue;
            size_t size = ROW_HEAD_BYTES + incoming[i].msg_len;
            if (bytes + size > FRAME_BYTES_MAX) {
                send_frame(fd, owner, parts);
                parts = 1;
                bytes = FRAME_HEAD_BYTES;
            }
            leaving[parts++] = (struct iovec){rows[i], size};
            bytes += size;
        }
        if (parts > 1)
            send_frame(fd, owner, parts);
    }
}

static int open_public(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0), one = 1;
    struct sockaddr_in address = loopback(0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    enlarge_receive_buffer(fd);
    if (bind(fd, (struct sockaddr *)&address, sizeof address))
        die("bind");
    return fd;
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc - 2 > TRANSCEIVERS_MAX) {
        fprintf(stderr, "usage: relay datagrams|frames TRANSCEIVER_PORT...\n");
        return 2;
    }
    int frames = !strcmp(argv[1], "frames");
    transceivers_count = argc - 2;
    for (int i = 0; i < transceivers_count; i++)
        transceivers[i] = loopback((uint16_t)atoi(argv[2 + i]));
    int public = open_public(), internal = socket(AF_INET, SOCK_DGRAM, 0);
    for (int i = 0; i < BATCH_ROWS; i++) {
        landing[i] = (struct iovec){rows[i] + ROW_HEAD_BYTES, ROW_STRIDE - ROW_HEAD_BYTES};
        incoming[i].msg_hdr = (struct msghdr){
            .msg_name = rows[i], .msg_namelen = ADDRESS_BYTES, .msg_iov = &landing[i], .msg_iovlen = 1};
    }
    struct sockaddr_in own;
    socklen_t length = sizeof own;
    getsockname(public, (struct sockaddr *)&own, &length);
    printf("ready %d\n", ntohs(own.sin_port));
    fflush(stdout);

    for (;;) {
        int count = recvmmsg(public, incoming, BATCH_ROWS, MSG_WAITFORONE, NULL);
        if (count < 0) {
            if (errno == EINTR)
                continue;
            die("recvmmsg");
        }
        int owners[BATCH_ROWS];
        for (int i = 0; i < count; i++) {
            uint16_t lengths[2] = {(uint16_t)incoming[i].msg_len, 0};
            memcpy(rows[i] + ADDRESS_BYTES, lengths, sizeof lengths);
            owners[i] = route(rows[i], incoming[i].msg_len, incoming[i].msg_hdr.msg_flags);
        }
        if (frames)
            send_frames(internal, owners, count);
        else
            send_datagrams(internal, owners, count);
    }
}
