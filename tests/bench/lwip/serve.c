/*
 * The applications over lwIP, behind a TUN device of its own: with lwIP's callbacks, as people embed it.
 *
 *   serve DEVICE MTU STACK4 PEER4 STACK6 PEER6    lwIP has the STACKs' addresses; the kernel gets the PEERs'
 *
 * One thread and one loop. It says "ready" once it serves, and runs until it is killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROGRAM "serve"
#include "../../interop/lwip/device.h"
#include "lwip/tcp.h"

/* Those of host/src/compare/applications.rs. */
enum {
    ECHO = 8007,
    DISCARD = 8009,
    SOURCE = 8019,
    SHORT = 8064,
    LONG = 8016,
    REQUEST = 64,
    ANSWER = 16384,
};

enum { BACKLOG = 255 /* lwIP's largest */ };

struct served {
    struct tcp_pcb *pcb;
    struct pbuf *in;         /* to be echoed */
    unsigned part;           /* bytes of a request that has not come as a whole */
    unsigned long long owed; /* bytes of answers that lwIP has not taken */
    int has_ended;           /* a FIN came */
};

/* What all answers are made of. */
static char answers[TCP_SND_BUF];

/* Sends back as much as lwIP has room for; its window opens by as much. */
static void echo(struct served *served) {
    while (served->in != NULL) {
        u16_t offset;
        struct pbuf *first = pbuf_skip(served->in, 0, &offset);
        if (first == NULL) {
            /* Nothing but headers that are gone. */
            pbuf_free(served->in);
            served->in = NULL;
            return;
        }
        u16_t length = (u16_t)LWIP_MIN(first->len, tcp_sndbuf(served->pcb));
        if (length == 0 || tcp_write(served->pcb, first->payload, length, TCP_WRITE_FLAG_COPY) != ERR_OK) return;
        served->in = pbuf_free_header(served->in, length);
        tcp_recved(served->pcb, length);
    }
}

static void answer(struct served *served) {
    while (served->owed > 0) {
        u16_t length = (u16_t)LWIP_MIN(served->owed, tcp_sndbuf(served->pcb));
        if (length == 0 || tcp_write(served->pcb, answers, length, 0) != ERR_OK) return;
        served->owed -= length;
    }
}

static void finish(struct served *served) {
    if (served->in != NULL) pbuf_free(served->in);
    free(served);
}

/*
 * Everything that can be done now. What lwIP has no room for is done from `on_room`: something is on its way then. lwIP
 * sends what it was given once its callback returns.
 */
static void turn(struct served *served) {
    struct tcp_pcb *pcb = served->pcb;
    echo(served);
    answer(served);
    if (!served->has_ended || served->in != NULL || (served->owed > 0 && pcb->local_port != SOURCE)) return;
    tcp_arg(pcb, NULL);
    tcp_recv(pcb, NULL);
    tcp_sent(pcb, NULL);
    tcp_err(pcb, NULL);
    /* Where there is no memory for it, lwIP tries again by itself. */
    tcp_close(pcb);
    finish(served);
}

static err_t on_received(void *argument, struct tcp_pcb *pcb, struct pbuf *data, err_t error) {
    struct served *served = argument;
    (void)error;
    if (data == NULL) {
        served->has_ended = 1;
    } else if (pcb->local_port == ECHO) {
        if (served->in == NULL) {
            served->in = data;
        } else {
            pbuf_cat(served->in, data);
        }
    } else {
        if (pcb->local_port == SHORT || pcb->local_port == LONG) {
            served->part += data->tot_len;
            served->owed += served->part / REQUEST * (pcb->local_port == LONG ? ANSWER : REQUEST);
            served->part %= REQUEST;
        }
        tcp_recved(pcb, data->tot_len);
        pbuf_free(data);
    }
    turn(served);
    return ERR_OK;
}

static err_t on_room(void *argument, struct tcp_pcb *pcb, u16_t length) {
    (void)pcb, (void)length;
    turn(argument);
    return ERR_OK;
}

/* lwIP has freed its part. */
static void on_error(void *argument, err_t error) {
    (void)error;
    finish(argument);
}

static err_t on_accepted(void *argument, struct tcp_pcb *pcb, err_t error) {
    (void)argument;
    if (error != ERR_OK || pcb == NULL) return ERR_VAL;
    struct served *served = calloc(1, sizeof *served);
    if (served == NULL) fail("memory");
    served->pcb = pcb;
    /* As good as without end. */
    if (pcb->local_port == SOURCE) served->owed = ~0ULL;
    tcp_nagle_disable(pcb);
    tcp_arg(pcb, served);
    tcp_recv(pcb, on_received);
    tcp_sent(pcb, on_room);
    tcp_err(pcb, on_error);
    turn(served);
    return ERR_OK;
}

static void listen_at(u16_t port) {
    struct tcp_pcb *pcb = tcp_new_ip_type(IPADDR_TYPE_ANY);
    if (pcb == NULL || tcp_bind(pcb, IP_ANY_TYPE, port) != ERR_OK) fail("tcp_bind");
    pcb = tcp_listen_with_backlog(pcb, BACKLOG);
    if (pcb == NULL) fail("tcp_listen");
    tcp_accept(pcb, on_accepted);
}

/* The kernel's end of the device. */
static void set_up(const char *device, int mtu, const char *peer4, const char *peer6) {
    char command[512];
    snprintf(command, sizeof command,
             "ip address add %s/24 dev %s && ip address add %s/64 dev %s nodad && ip link set dev %s mtu %d up",
             peer4, device, peer6, device, device, mtu);
    /* It has said what is wrong. */
    if (system(command) != 0) exit(1);
}

int main(int count, char **words) {
    if (count != 7) {
        fputs("usage: serve DEVICE MTU STACK4 PEER4 STACK6 PEER6\n", stderr);
        return 2;
    }
    memset(answers, 0x5a, sizeof answers);
    int mtu = atoi(words[2]);
    lwip_init();
    open_device(words[1], mtu, words[3]);
    ip6_addr_t own6;
    if (!ip6addr_aton(words[5], &own6)) fail(words[5]);
    add_address6(&own6);
    set_up(words[1], mtu, words[4], words[6]);
    const u16_t ports[] = {ECHO, DISCARD, SOURCE, SHORT, LONG};
    for (unsigned at = 0; at < sizeof ports / sizeof *ports; at++) listen_at(ports[at]);
    puts("ready");
    fflush(stdout);
    struct pollfd device = {.fd = tun, .events = POLLIN};
    for (;;) {
        sys_check_timeouts();
        if (poll(&device, 1, (int)sys_timeouts_sleeptime()) < 0 && errno != EINTR) fail("poll");
        /* The device is gone. */
        if (device.revents & POLLERR) return 1;
        receive();
    }
}
