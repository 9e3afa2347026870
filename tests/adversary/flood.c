/* Sends a paced flood of UDP packets from many loopback addresses and counts what comes back.
 *
 *   flood KIND HOST PORT COUNT SOURCES RATE SEED [FILE]
 *
 * KIND     stun    Binding requests whose USERNAME has a random ufrag of 24 characters
 *          forged  the same, but each ufrag names key id 0 and format version 1
 *          junk    random bytes, 0 to 1,500 of them
 *          file    packets of FILE in turn; each is preceded by its length, two bytes, big-endian
 * SOURCES  how many addresses from 127.1.0.0 on, each with a socket of its own
 * RATE     packets per second; when the machine cannot keep up, fewer
 *
 * Prints one JSON object: packets and bytes sent, replies and their bytes, seconds taken.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PACKET_MAX = 1500, TICK_NS = 1000000, ECHO_WAIT_US = 300000 };

static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static uint64_t state;

static uint64_t next_random(void) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 2685821657736338717ULL;
}

static void fill_random(uint8_t *to, int size) {
    for (int i = 0; i < size; i++) to[i] = (uint8_t)(next_random() >> 32);
}

static void die(const char *what) {
    fprintf(stderr, "flood: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Lay out a check: USERNAME, PRIORITY, ICE-CONTROLLING, MESSAGE-INTEGRITY, FINGERPRINT. */
static int make_check(uint8_t *packet, int forged) {
    static const uint8_t HEAD[] = {0, 1, 0, 92, 0x21, 0x12, 0xa4, 0x42};
    uint8_t *at = packet + 20;
    memcpy(packet, HEAD, sizeof HEAD);
    fill_random(packet + 8, 12);
    memcpy(at, "\x00\x06\x00\x21", 4);
    for (int i = 0; i < 24; i++) at[4 + i] = BASE64[next_random() >> 58];
    if (forged) { /* byte 0 is 0x01: six zero bits, then 01 and four random bits */
        at[4] = 'A';
        at[5] = BASE64[16 + (next_random() >> 60)];
    }
    memcpy(at + 28, ":clientuf\0\0\0", 12);
    at += 40;
    memcpy(at, "\x00\x24\x00\x04\x6e\x7f\x1e\xff", 8);
    memcpy(at + 8, "\x80\x2a\x00\x08", 4);
    fill_random(at + 12, 8);
    memcpy(at + 20, "\x00\x08\x00\x14", 4);
    fill_random(at + 24, 20);
    memcpy(at + 44, "\x80\x28\x00\x04", 4);
    fill_random(at + 48, 4);
    return 112;
}

static int *open_sources(int count) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int *sockets = calloc((size_t)count, sizeof *sockets);
    for (int i = 0; i < count; i++) {
        struct sockaddr_in own = {.sin_family = AF_INET};
        own.sin_addr.s_addr = htonl(0x7f010000u + (uint32_t)i);
        sockets[i] = socket(AF_INET, SOCK_DGRAM, 0);
        if (sockets[i] < 0) die("socket");
        if (bind(sockets[i], (struct sockaddr *)&own, sizeof own) < 0) die("bind");
    }
    return sockets;
}

static uint8_t *read_file(const char *path, long *size) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    fseek(file, 0, SEEK_END);
    *size = ftell(file);
    rewind(file);
    uint8_t *data = malloc((size_t)*size);
    if (fread(data, 1, (size_t)*size, file) != (size_t)*size) die(path);
    fclose(file);
    return data;
}

static double seconds_since(const struct timespec *start) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

int main(int argc, char **argv) {
    if (argc < 8) return 2;
    const char *kind = argv[1];
    long count = atol(argv[4]), rate = atol(argv[6]), sent = 0, at = 0, size = 0;
    long long bytes = 0, reply_bytes = 0;
    int sources = atoi(argv[5]), *sockets = open_sources(sources);
    uint8_t packet[PACKET_MAX], *packets = argc > 8 ? read_file(argv[8], &size) : NULL;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[3]))};
    struct timespec start, due;
    inet_pton(AF_INET, argv[2], &to.sin_addr);
    state = strtoull(argv[7], NULL, 10) * 0x9e3779b97f4a7c15ULL + 1;
    clock_gettime(CLOCK_MONOTONIC, &start);
    due = start;
    for (long n = 0; n < count; n++) {
        const uint8_t *data = packet;
        int length;
        if (n >= (long)(seconds_since(&start) * (double)rate)) {
            due.tv_nsec += TICK_NS;
            if (due.tv_nsec >= 1000000000) due.tv_sec++, due.tv_nsec -= 1000000000;
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        }
        if (packets) {
            length = packets[at] << 8 | packets[at + 1];
            data = packets + at + 2;
            at += length + 2;
            if (at >= size) at = 0;
        } else if (!strcmp(kind, "junk")) {
            length = (int)(next_random() % (PACKET_MAX + 1));
            fill_random(packet, length);
        } else {
            length = make_check(packet, !strcmp(kind, "forged"));
        }
        if (sendto(sockets[n % sources], data, (size_t)length, 0, (struct sockaddr *)&to,
                   sizeof to) == length) {
            sent++;
            bytes += length;
        }
    }
    double took = seconds_since(&start);
    long replies = 0;
    usleep(ECHO_WAIT_US);
    for (int i = 0; i < sources; i++) {
        ssize_t got;
        while ((got = recv(sockets[i], packet, sizeof packet, MSG_DONTWAIT)) >= 0) {
            replies++;
            reply_bytes += got;
        }
    }
    printf("{\"sent\": %ld, \"bytes\": %lld, \"replies\": %ld, \"reply_bytes\": %lld, "
           "\"seconds\": %.3f}\n",
           sent, bytes, replies, reply_bytes, took);
    return 0;
}
