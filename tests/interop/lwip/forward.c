/*
 * lwIP as a peer: hands connections on between lwIP, behind a TUN device, and the kernel, as `bulkhead run forward` does
 * between its own stack and the kernel. So every program can be at the end of a connection of lwIP's.
 *
 *   forward DEVICE MTU ADDRESS LOCAL PORT           lwIP listens at PORT; the kernel's LOCAL serves there
 *   forward DEVICE MTU ADDRESS LOCAL PORT TARGET    the kernel listens at LOCAL; lwIP opens to TARGET
 *   forward version                                 lwIP's version
 *
 * One thread and one loop: lwIP's core is called from nowhere else, so its locks have nobody to keep out. It runs until
 * it is killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* lwIP has another meaning for it. */
#undef TCP_MSS
#define PROGRAM "forward"
#include "device.h"
#include "lwip/tcp.h"

enum {
    CHUNK = 16384, /* bytes that are on their way to lwIP, of one pair */
    BACKLOG = 255, /* lwIP's largest */
    EVENTS = 64,
};

/* Two connections that are one: lwIP's and the kernel's. */
struct pair {
    struct tcp_pcb *pcb; /* NULL: gone */
    int fd;              /* -1: gone */
    struct pbuf *in;     /* from lwIP, not yet taken by the kernel */
    char out[CHUNK];     /* from the kernel, not yet taken by lwIP */
    unsigned out_from, out_to;
    int is_lwip_open, is_kernel_open; /* the handshakes are over */
    int lwip_ended, kernel_ended;     /* a FIN came */
    int lwip_told, kernel_told;       /* and was handed on */
    int failed;                       /* a reset is to be handed on */
    unsigned interest;
    int is_due;
    struct pair *next_due;
};

static int epoll, listening = -1;
static unsigned short port;
static struct addrinfo *local;
static struct pair *due;
static ip_addr_t target;

/* It has something to do, once lwIP has returned: a connection must not be freed under its own callback. */
static void mark(struct pair *pair) {
    if (!pair->is_due) {
        pair->is_due = 1;
        pair->next_due = due;
        due = pair;
    }
}

static struct pair *new_pair(int fd, struct tcp_pcb *pcb) {
    struct pair *pair = calloc(1, sizeof *pair);
    if (pair == NULL) fail("memory");
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    tcp_nagle_disable(pcb);
    pair->fd = fd;
    pair->pcb = pcb;
    struct epoll_event event = {.events = 0, .data.ptr = pair};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll_ctl");
    mark(pair);
    return pair;
}

static err_t on_received(void *argument, struct tcp_pcb *pcb, struct pbuf *data, err_t error) {
    struct pair *pair = argument;
    (void)pcb, (void)error;
    if (data == NULL) {
        pair->lwip_ended = 1;
    } else if (pair->in == NULL) {
        pair->in = data;
    } else {
        pbuf_cat(pair->in, data);
    }
    mark(pair);
    return ERR_OK;
}

static err_t on_room(void *argument, struct tcp_pcb *pcb, u16_t length) {
    (void)pcb, (void)length;
    mark(argument);
    return ERR_OK;
}

/* Twice a second: what lwIP had no memory for is tried again. */
static err_t on_poll(void *argument, struct tcp_pcb *pcb) {
    (void)pcb;
    mark(argument);
    return ERR_OK;
}

static void on_error(void *argument, err_t error) {
    struct pair *pair = argument;
    (void)error;
    /* It has been freed. */
    pair->pcb = NULL;
    pair->failed = 1;
    mark(pair);
}

static err_t on_connected(void *argument, struct tcp_pcb *pcb, err_t error) {
    struct pair *pair = argument;
    (void)pcb, (void)error;
    pair->is_lwip_open = 1;
    mark(pair);
    return ERR_OK;
}

static void attach(struct pair *pair) {
    tcp_arg(pair->pcb, pair);
    tcp_recv(pair->pcb, on_received);
    tcp_sent(pair->pcb, on_room);
    tcp_err(pair->pcb, on_error);
    tcp_poll(pair->pcb, on_poll, 1);
}

static void detach(struct tcp_pcb *pcb) {
    tcp_arg(pcb, NULL);
    tcp_recv(pcb, NULL);
    tcp_sent(pcb, NULL);
    tcp_err(pcb, NULL);
    tcp_poll(pcb, NULL, 0);
}

/* lwIP has accepted: on to the kernel. */
static err_t on_accepted(void *argument, struct tcp_pcb *pcb, err_t error) {
    (void)argument;
    if (error != ERR_OK || pcb == NULL) return ERR_VAL;
    int fd = socket(local->ai_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) fail("socket");
    if (connect(fd, local->ai_addr, local->ai_addrlen) < 0 && errno != EINPROGRESS) fail("connect");
    struct pair *pair = new_pair(fd, pcb);
    pair->is_lwip_open = 1;
    attach(pair);
    return ERR_OK;
}

/* The kernel has accepted: on to lwIP. */
static void accept_all(void) {
    for (;;) {
        int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0) return;
        struct tcp_pcb *pcb = tcp_new_ip_type(IP_GET_TYPE(&target));
        if (pcb == NULL) fail("tcp_new");
        struct pair *pair = new_pair(fd, pcb);
        pair->is_kernel_open = 1;
        attach(pair);
        if (tcp_connect(pcb, &target, port, on_connected) != ERR_OK) {
            pair->failed = 1;
            mark(pair);
        }
    }
}

/* Bytes from lwIP on to the kernel, as many as it takes; lwIP's window opens by as many. */
static void to_kernel(struct pair *pair) {
    while (pair->in != NULL) {
        u16_t offset;
        struct pbuf *first = pbuf_skip(pair->in, 0, &offset);
        if (first == NULL) {
            /* Nothing but headers that are gone. */
            pbuf_free(pair->in);
            pair->in = NULL;
            break;
        }
        long sent = send(pair->fd, first->payload, first->len, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) pair->failed = 1;
            return;
        }
        pair->in = pbuf_free_header(pair->in, (u16_t)sent);
        tcp_recved(pair->pcb, (u16_t)sent);
    }
    if (pair->lwip_ended && !pair->kernel_told) {
        shutdown(pair->fd, SHUT_WR);
        pair->kernel_told = 1;
    }
}

/* Bytes from the kernel on to lwIP, while it has room. */
static void to_lwip(struct pair *pair) {
    for (;;) {
        unsigned left = pair->out_to - pair->out_from;
        if (left == 0 && !pair->kernel_ended) {
            if (tcp_sndbuf(pair->pcb) == 0) break;
            long length = read(pair->fd, pair->out, CHUNK);
            if (length < 0 && errno != EAGAIN) pair->failed = 1;
            if (length < 0) break;
            pair->kernel_ended = length == 0;
            pair->out_from = 0;
            pair->out_to = left = (unsigned)length;
        }
        if (left == 0) break;
        u16_t room = tcp_sndbuf(pair->pcb) < left ? (u16_t)tcp_sndbuf(pair->pcb) : (u16_t)left;
        if (room == 0) break;
        if (tcp_write(pair->pcb, pair->out + pair->out_from, room, TCP_WRITE_FLAG_COPY) != ERR_OK) break;
        pair->out_from += room;
    }
    if (pair->kernel_ended && pair->out_from == pair->out_to && !pair->lwip_told) {
        pair->lwip_told = tcp_shutdown(pair->pcb, 0, 1) == ERR_OK;
    }
    tcp_output(pair->pcb);
}

static void finish(struct pair *pair) {
    if (pair->pcb != NULL) {
        detach(pair->pcb);
        if (pair->failed) {
            tcp_abort(pair->pcb);
        } else {
            tcp_close(pair->pcb);
        }
    }
    if (pair->failed) {
        struct linger at_once = {.l_onoff = 1, .l_linger = 0};
        setsockopt(pair->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    close(pair->fd);
    if (pair->in != NULL) pbuf_free(pair->in);
    free(pair);
}

/* Everything that can be done now; what has to be waited for. */
static void turn(struct pair *pair) {
    if (!pair->failed && pair->is_kernel_open && pair->is_lwip_open) {
        to_kernel(pair);
        if (!pair->failed) to_lwip(pair);
    }
    if (pair->failed || (pair->lwip_told && pair->kernel_told)) {
        finish(pair);
        return;
    }
    unsigned interest = 0;
    if (!pair->is_kernel_open || pair->in != NULL) interest |= EPOLLOUT;
    int has_room = pair->out_from == pair->out_to && tcp_sndbuf(pair->pcb) > 0;
    if (pair->is_kernel_open && pair->is_lwip_open && !pair->kernel_ended && has_room) interest |= EPOLLIN;
    if (interest != pair->interest) {
        struct epoll_event event = {.events = interest, .data.ptr = pair};
        if (epoll_ctl(epoll, EPOLL_CTL_MOD, pair->fd, &event) < 0) fail("epoll_ctl");
        pair->interest = interest;
    }
}

static void on_kernel(struct pair *pair, unsigned events) {
    if (!pair->is_kernel_open) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(pair->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) pair->failed = 1;
        pair->is_kernel_open = error == 0;
    } else if (events & EPOLLERR) {
        pair->failed = 1;
    }
    mark(pair);
}

static void listen_to_kernel(void) {
    listening = socket(local->ai_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int on = 1;
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listening < 0 || bind(listening, local->ai_addr, local->ai_addrlen) < 0 || listen(listening, 1024) < 0)
        fail("listen");
}

static void listen_to_lwip(void) {
    struct tcp_pcb *pcb = tcp_new_ip_type(IPADDR_TYPE_ANY);
    if (pcb == NULL || tcp_bind(pcb, IP_ANY_TYPE, port) != ERR_OK) fail("tcp_bind");
    pcb = tcp_listen_with_backlog(pcb, BACKLOG);
    if (pcb == NULL) fail("tcp_listen");
    tcp_accept(pcb, on_accepted);
}

static void watch(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll_ctl");
}

int main(int count, char **words) {
    if (count == 2 && strcmp(words[1], "version") == 0) {
        puts(LWIP_VERSION_STRING);
        return 0;
    }
    if (count < 6) {
        fputs("usage: forward DEVICE MTU ADDRESS LOCAL PORT [TARGET]\n", stderr);
        return 2;
    }
    srand((unsigned)time(NULL) ^ (unsigned)getpid());
    port = (unsigned short)atoi(words[5]);
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    if (getaddrinfo(words[4], words[5], &hints, &local) != 0) fail(words[4]);
    lwip_init();
    epoll = epoll_create1(0);
    open_device(words[1], atoi(words[2]), words[3]);
    watch(tun);
    if (count > 6) {
        if (!ipaddr_aton(words[6], &target)) fail(words[6]);
        listen_to_kernel();
        watch(listening);
    } else {
        listen_to_lwip();
    }
    for (;;) {
        sys_check_timeouts();
        while (due != NULL) {
            struct pair *pair = due;
            due = pair->next_due;
            pair->is_due = 0;
            turn(pair);
        }
        struct epoll_event events[EVENTS];
        unsigned sleep = sys_timeouts_sleeptime();
        int ready = epoll_wait(epoll, events, EVENTS, sleep > 1000 ? 1000 : (int)sleep);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        for (int at = 0; at < ready; at++) {
            if (events[at].data.ptr != NULL) on_kernel(events[at].data.ptr, events[at].events);
        }
        receive();
        if (listening >= 0) accept_all();
    }
}
