/*
 * A TUN device with lwIP behind it, as its one interface. Whoever includes this defines `_GNU_SOURCE`, and `PROGRAM` as
 * its own name.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lwip/init.h"
#include "lwip/ip.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip/timeouts.h"

enum {
    FRAME = 65535, /* bytes of the largest frame */
    BATCH = 64,    /* frames that are read before anything else is done */
};

static int tun;
static struct netif own;

static void fail(const char *what) {
    fprintf(stderr, PROGRAM ": %s: %s\n", what, strerror(errno));
    exit(1);
}

static err_t transmit(struct pbuf *frame) {
    static char bytes[FRAME];
    const void *whole = pbuf_get_contiguous(frame, bytes, sizeof bytes, frame->tot_len, 0);
    /* What the device does not take is lost, as on any wire. */
    if (write(tun, whole, frame->tot_len) < 0 && errno != EAGAIN && errno != ENOBUFS) fail("write");
    return ERR_OK;
}

static err_t transmit4(struct netif *netif, struct pbuf *frame, const ip4_addr_t *to) {
    (void)netif, (void)to;
    return transmit(frame);
}

static err_t transmit6(struct netif *netif, struct pbuf *frame, const ip6_addr_t *to) {
    (void)netif, (void)to;
    return transmit(frame);
}

static void receive(void) {
    static char bytes[FRAME];
    for (int frames = 0; frames < BATCH; frames++) {
        long length = read(tun, bytes, sizeof bytes);
        if (length <= 0) return;
        struct pbuf *frame = pbuf_alloc(PBUF_RAW, (u16_t)length, PBUF_RAM);
        if (frame == NULL) continue;
        pbuf_take(frame, bytes, (u16_t)length);
        if (own.input(frame, &own) != ERR_OK) pbuf_free(frame);
    }
}

static err_t describe(struct netif *netif) {
    netif->name[0] = 't';
    netif->name[1] = 'n';
    netif->output = transmit4;
    netif->output_ip6 = transmit6;
    return ERR_OK;
}

static void add_address6(const ip6_addr_t *address) {
    netif_ip6_addr_set(&own, 0, address);
    /* There is nobody else on this link to have the same. */
    netif_ip6_addr_set_state(&own, 0, IP6_ADDR_PREFERRED);
}

static void open_device(const char *name, int mtu, const char *address) {
    tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tun < 0) fail("/dev/net/tun");
    struct ifreq request = {0};
    strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (ioctl(tun, TUNSETIFF, &request) < 0) fail(name);
    ip_addr_t ip;
    ip4_addr_t mask;
    IP4_ADDR(&mask, 255, 255, 255, 0);
    if (!ipaddr_aton(address, &ip)) fail(address);
    const ip4_addr_t *ip4 = IP_IS_V4(&ip) ? ip_2_ip4(&ip) : NULL;
    if (netif_add(&own, ip4, &mask, ip4, NULL, describe, ip_input) == NULL) fail("netif_add");
    own.mtu = (u16_t)mtu;
    own.mtu6 = (u16_t)mtu;
    if (ip4 == NULL) add_address6(ip_2_ip6(&ip));
    netif_set_default(&own);
    netif_set_up(&own);
    netif_set_link_up(&own);
}
