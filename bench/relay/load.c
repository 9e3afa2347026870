/* Load generator and sink in one thread: sends as clients do, receives as the transceivers would.
 *
 * One busy loop on one core, so that neither side's waking up is part of what is measured: a packet
 * is stamped before it is sent and looked at as soon as the sink's socket has it.
 *
 *   load PORT FLOWS BYTES RATE MILLISECONDS PID FRAMES CHECKS SINK...
 *
 * PORT          of the relay, on 127.0.0.1
 * FLOWS         client sockets; flow n belongs to transceiver n % number of sinks
 * BYTES         of each packet
 * RATE          packets per second, evenly spaced; 0: saturation, see below
 * MILLISECONDS  of measurement, after a warm-up
 * PID           of the relay process, whose CPU clock is read
 * FRAMES        1: the relay sends batch frames, 0: one datagram per packet, which is one row
 * CHECKS        file with a STUN request for each flow, each after its length (16 bits, little-endian)
 * SINK          file descriptor of each transceiver's socket
 *
 * Every flow starts with its STUN request, again and again until a row comes back that the relay
 * does not flag as unconfirmed; flagged ones are answered with a CONFIRM notice.
 * Saturation: one sender outruns these relays only by handing the kernel a run of packets of one
 * flow at a time. The receive buffer is then always full, and what does not fit is lost.
 * Prints one JSON object. Bytes are checked at paced rates, counts always.
 */

#define _GNU_SOURCE
#include "wire.h"

#include <netinet/udp.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    FLOWS_MAX = 8192,
    CHECK_BYTES_MAX = 512,
    STAMP_OFFSET = 12, /* after the RTP header */
    RUN = 32,          /* packets per send when saturating */
    SINK_BATCH = 128,
    SAMPLES_MAX = 1 << 20,
};

#define WARM_UP_NS 150000000u
#define STOPPING_NS 50000u /* for a stop signal to reach further threads */
#define SETUP_NS 8000000000u
#define LINGER_NS 30000000u /* what is still under way after the last packet */

static int clients[FLOWS_MAX];
static uint8_t confirmed[65536]; /* by client port in network order */
static int sinks[TRANSCEIVERS_MAX];
static int sinks_count, frames;
static uint8_t checks[FLOWS_MAX][CHECK_BYTES_MAX];
static uint16_t check_bytes[FLOWS_MAX];

static uint8_t packets[RUN * ROW_STRIDE], *const packet = packets;
static size_t packet_bytes;

static uint8_t landing[1 << 16];
static uint64_t rows_received, rows_broken;
static uint32_t samples[SAMPLES_MAX];
static size_t samples_count;
static uint64_t samples_from; /* packets stamped earlier are warm-up */

static struct mmsghdr glance[SINK_BATCH];
static uint8_t glances[SINK_BATCH][FRAME_HEAD_BYTES];

static void open_clients(int count, uint16_t port)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    struct sockaddr_in relay = loopback(port);
    for (int i = 0; i < count; i++) {
        clients[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        if (clients[i] < 0 || connect(clients[i], (struct sockaddr *)&relay, sizeof relay))
            die("client socket");
    }
}

static void read_checks(const char *path, int flows)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        die(path);
    for (int i = 0; i < flows; i++) {
        uint8_t size[2];
        if (fread(size, 1, 2, file) != 2)
            die("checks");
        check_bytes[i] = (uint16_t)(size[0] | size[1] << 8);
        if (check_bytes[i] > CHECK_BYTES_MAX || fread(checks[i], 1, check_bytes[i], file) != check_bytes[i])
            die("checks");
    }
    fclose(file);
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint64_t percentile(double share)
{
    return samples_count ? samples[(size_t)(share * (double)(samples_count - 1))] : 0;
}

/* Take one row of a paced run: check it and note how long it was on its way. */
static void take_row(const uint8_t *payload, size_t size, uint64_t now)
{
    rows_received++;
    if (size != packet_bytes || memcmp(payload, packet, STAMP_OFFSET)
        || memcmp(payload + STAMP_OFFSET + 8, packet + STAMP_OFFSET + 8, size - STAMP_OFFSET - 8)) {
        rows_broken++;
        return;
    }
    uint64_t stamp;
    memcpy(&stamp, payload + STAMP_OFFSET, sizeof stamp);
    if (stamp >= samples_from && samples_count < SAMPLES_MAX)
        samples[samples_count++] = (uint32_t)(now - stamp);
}

/* Call a function for each row of a datagram from the relay. */
static void walk(size_t size, void (*take)(const uint8_t *row, size_t payload_bytes, void *), void *context)
{
    size_t offset = 0;
    if (frames) {
        if (size < FRAME_HEAD_BYTES || landing[0] != MAGIC || landing[1] != KIND_PACKETS) {
            rows_broken++;
            return;
        }
        offset = FRAME_HEAD_BYTES;
    }
    while (offset + ROW_HEAD_BYTES <= size) {
        const uint8_t *row = landing + offset;
        size_t payload_bytes = (size_t)(row[28] | row[29] << 8);
        offset += ROW_HEAD_BYTES + payload_bytes;
        if (offset > size)
            break;
        take(row, payload_bytes, context);
    }
    if (offset != size)
        rows_broken++;
}

static void take_media_row(const uint8_t *row, size_t payload_bytes, void *context)
{
    if (row[ROW_HEAD_BYTES] == packet[0])
        take_row(row + ROW_HEAD_BYTES, payload_bytes, *(uint64_t *)context);
}

static void drain_looking(void)
{
    for (int i = 0; i < sinks_count; i++) {
        ssize_t size = recv(sinks[i], landing, sizeof landing, MSG_DONTWAIT);
        if (size < 0)
            continue;
        uint64_t now = clock_ns(CLOCK_MONOTONIC);
        walk((size_t)size, take_media_row, &now);
    }
}

/* Count what the relay sent without reading more than the head of each datagram. */
static void drain_counting(void)
{
    for (int i = 0; i < sinks_count; i++) {
        int got = recvmmsg(sinks[i], glance, SINK_BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
        for (int k = 0; k < got; k++) {
            size_t rows = 1, expected = ROW_HEAD_BYTES + packet_bytes;
            if (frames) {
                rows = (size_t)(glances[k][4] | glances[k][5] << 8);
                expected = FRAME_HEAD_BYTES + rows * expected;
            }
            if (glance[k].msg_len == expected)
                rows_received += rows;
            else
                rows_broken++;
        }
    }
}

struct notice {
    uint8_t bytes[FRAME_HEAD_BYTES + BATCH_ROWS * ROW_HEAD_BYTES];
    int rows;
};

static void take_check_row(const uint8_t *row, size_t payload_bytes, void *context)
{
    struct notice *notice = context;
    (void)payload_bytes;
    uint16_t flags, port;
    memcpy(&flags, row + 30, 2);
    memcpy(&port, row + 2, 2);
    if (!(flags & FLAG_UNCONFIRMED)) {
        confirmed[port] = 1;
    } else if (notice->rows < BATCH_ROWS) {
        uint8_t *answer = notice->bytes + FRAME_HEAD_BYTES + notice->rows++ * ROW_HEAD_BYTES;
        memset(answer, 0, ROW_HEAD_BYTES);
        memcpy(answer, row, ADDRESS_BYTES);
    }
}

static void receive_checks(void)
{
    for (int i = 0; i < sinks_count; i++) {
        struct sockaddr_in relay;
        socklen_t length = sizeof relay;
        ssize_t size;
        while ((size = recvfrom(sinks[i], landing, sizeof landing, MSG_DONTWAIT, (struct sockaddr *)&relay, &length)) >= 0) {
            struct notice notice = {.bytes = {MAGIC, KIND_CONFIRM}};
            walk((size_t)size, take_check_row, &notice);
            notice.bytes[4] = (uint8_t)notice.rows; /* at most BATCH_ROWS */
            if (notice.rows)
                sendto(sinks[i], notice.bytes, FRAME_HEAD_BYTES + (size_t)notice.rows * ROW_HEAD_BYTES, 0, (struct sockaddr *)&relay, length);
        }
    }
}

/* Make every flow known and confirmed. */
static void establish(int flows)
{
    uint16_t ports[FLOWS_MAX];
    for (int i = 0; i < flows; i++) {
        struct sockaddr_in own;
        socklen_t length = sizeof own;
        getsockname(clients[i], (struct sockaddr *)&own, &length);
        ports[i] = own.sin_port;
    }
    uint64_t until = clock_ns(CLOCK_MONOTONIC) + SETUP_NS;
    for (int missing = flows; missing;) {
        if (clock_ns(CLOCK_MONOTONIC) > until) {
            fprintf(stderr, "load: %d of %d flows were not confirmed\n", missing, flows);
            exit(1);
        }
        missing = 0;
        for (int i = 0; i < flows; i++) {
            if (confirmed[ports[i]])
                continue;
            missing++;
            send(clients[i], checks[i], check_bytes[i], 0);
            if (missing % 32 == 0) {
                usleep(500);
                receive_checks();
            }
        }
        usleep(2000);
        receive_checks();
    }
    usleep(20000);
    receive_checks();
}

/* What is measured; times in nanoseconds. */
struct result {
    uint64_t time, cpu, sent, received;
};

static struct result between(struct result first, struct result last)
{
    return (struct result){
        last.time - first.time, last.cpu - first.cpu, last.sent - first.sent, last.received - first.received};
}

static uint64_t send_one(int flow)
{
    uint64_t stamp = clock_ns(CLOCK_MONOTONIC);
    memcpy(packet + STAMP_OFFSET, &stamp, sizeof stamp);
    return send(clients[flow], packet, packet_bytes, 0) > 0;
}

static struct result run_paced(int flows, uint64_t rate, uint64_t duration, clockid_t relay_clock)
{
    uint64_t spacing = 1000000000u / rate, due = clock_ns(CLOCK_MONOTONIC), sent = 0;
    uint64_t end = due + WARM_UP_NS + duration;
    struct result first = {0}, last;
    samples_from = due + WARM_UP_NS;
    for (int flow = 0;;) {
        uint64_t now = clock_ns(CLOCK_MONOTONIC);
        if (!first.time && now >= samples_from)
            first = (struct result){now, clock_ns(relay_clock), sent, rows_received};
        if (now >= end)
            break;
        if (now >= due) {
            sent += send_one(flow);
            flow = flow + 1 < flows ? flow + 1 : 0;
            due += spacing;
        } else {
            drain_looking();
        }
    }
    last = (struct result){clock_ns(CLOCK_MONOTONIC), clock_ns(relay_clock), sent, rows_received};
    for (uint64_t until = last.time + LINGER_NS; clock_ns(CLOCK_MONOTONIC) < until;)
        drain_looking();
    return between(first, last);
}

static void stop(pid_t relay)
{
    char path[32], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", relay);
    if (kill(relay, SIGSTOP))
        die("kill");
    while (state != 'T') {
        FILE *stat = fopen(path, "r");
        if (!stat || fscanf(stat, "%*d (%*[^)]) %c", &state) != 1)
            die(path);
        fclose(stat);
    }
    for (uint64_t until = clock_ns(CLOCK_MONOTONIC) + STOPPING_NS; clock_ns(CLOCK_MONOTONIC) < until;)
        ;
}

/* Send a run of packets on one flow in one call; the kernel cuts them apart (UDP_SEGMENT). */
static uint64_t send_run(int flow, int count)
{
    union {
        char room[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control;
    struct iovec part = {packets, packet_bytes * (size_t)count};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_UDP;
    head->cmsg_type = UDP_SEGMENT;
    head->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    uint16_t size = (uint16_t)packet_bytes;
    memcpy(CMSG_DATA(head), &size, sizeof size);
    return sendmsg(clients[flow], &message, 0) > 0 ? (uint64_t)count : 0;
}

/* Another process's clock stands still while that process runs, but is right when it is stopped. */
static struct result mark_stopped(pid_t relay, clockid_t relay_clock, uint64_t sent)
{
    stop(relay);
    uint64_t cpu = clock_ns(relay_clock);
    drain_counting();
    if (kill(relay, SIGCONT))
        die("kill");
    return (struct result){clock_ns(CLOCK_MONOTONIC), cpu, sent, rows_received};
}

static struct result run_saturated(int flows, uint64_t duration, pid_t relay, clockid_t relay_clock)
{
    uint64_t start = clock_ns(CLOCK_MONOTONIC), sent = 0;
    struct result first = {0}, last;
    for (int flow = 0;;) {
        uint64_t spent = clock_ns(CLOCK_MONOTONIC) - start;
        if (!first.time && spent >= WARM_UP_NS) {
            first = mark_stopped(relay, relay_clock, sent);
            rows_broken = 0; /* checks came late */
        }
        if (spent >= WARM_UP_NS + duration)
            break;
        sent += send_run(flow, RUN);
        flow = flow + 1 < flows ? flow + 1 : 0;
        drain_counting();
    }
    last = mark_stopped(relay, relay_clock, sent);
    return between(first, last);
}

int main(int argc, char **argv)
{
    if (argc < 10 || argc - 9 > TRANSCEIVERS_MAX) {
        fprintf(stderr, "usage: load PORT FLOWS BYTES RATE MILLISECONDS PID FRAMES CHECKS SINK...\n");
        return 2;
    }
    uint16_t port = (uint16_t)atoi(argv[1]);
    int flows = atoi(argv[2]);
    packet_bytes = (size_t)atoi(argv[3]);
    uint64_t rate = strtoull(argv[4], NULL, 10), duration = strtoull(argv[5], NULL, 10) * 1000000u;
    clockid_t relay_clock;
    pid_t relay = atoi(argv[6]);
    if (clock_getcpuclockid(relay, &relay_clock))
        die("clock_getcpuclockid");
    frames = atoi(argv[7]);
    sinks_count = argc - 9;
    for (int i = 0; i < sinks_count; i++)
        sinks[i] = atoi(argv[9 + i]);
    if (flows < 1 || flows > FLOWS_MAX || packet_bytes > 1400) {
        fprintf(stderr, "load: too much\n");
        return 2;
    }
    read_checks(argv[8], flows);
    for (size_t i = 0; i < sizeof packets; i++)
        packets[i] = (uint8_t)(0x80 + i % packet_bytes);
    static struct iovec looks[SINK_BATCH];
    for (int i = 0; i < SINK_BATCH; i++) {
        looks[i] = (struct iovec){glances[i], FRAME_HEAD_BYTES};
        glance[i].msg_hdr = (struct msghdr){.msg_iov = &looks[i], .msg_iovlen = 1};
    }
    open_clients(flows, port);
    establish(flows);

    struct result result = rate ? run_paced(flows, rate, duration, relay_clock)
                                : run_saturated(flows, duration, relay, relay_clock);
    qsort(samples, samples_count, sizeof *samples, compare);
    printf("{\"time_ns\": %llu, \"cpu_ns\": %llu, \"sent\": %llu, \"received\": %llu, \"broken\": %llu, "
           "\"p50_ns\": %llu, \"p99_ns\": %llu}\n",
           (unsigned long long)result.time, (unsigned long long)result.cpu, (unsigned long long)result.sent,
           (unsigned long long)result.received, (unsigned long long)rows_broken,
           (unsigned long long)percentile(0.5), (unsigned long long)percentile(0.99));
    return 0;
}
