/* The sockets, and whose a datagram is. */

#include <string.h>

#include "module.h"

enum { BUCKETS = 256, NONE = UINT16_MAX };

_Static_assert(SOCKETS < NONE, "a link is a socket's number or NONE");

/* Sockets by local port: the first one of each bucket, and the next one behind each. It follows from the sockets, so it is
 * not saved; binds are rare, so it is made anew for each. */
static uint16_t first[BUCKETS];
static uint16_t next[SOCKETS];

static uint32_t bucket_of(uint16_t port) {
    return port % BUCKETS;
}

void index_sockets(void) {
    memset(first, 0xff, sizeof first);
    for (uint32_t i = state.socket_count; i-- > 0;) {
        uint32_t bucket = bucket_of(state.sockets[i].local.port);
        next[i] = first[bucket];
        first[bucket] = (uint16_t)i;
    }
}

/* Where the socket of this handle is, or would be. */
static uint32_t position_of(Handle handle) {
    uint32_t low = 0, high = state.socket_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (state.sockets[middle].handle < handle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct socket *find_socket(Handle handle) {
    uint32_t at = position_of(handle);
    return at < state.socket_count && state.sockets[at].handle == handle ? &state.sockets[at] : NULL;
}

/* `::` for both versions takes the place of 0.0.0.0 too, and is kept from it. */
static bool is_in_use(const struct socket *wanted) {
    for (uint16_t i = first[bucket_of(wanted->local.port)]; i != NONE; i = next[i]) {
        const struct socket *other = &state.sockets[i];
        if (other->local.port != wanted->local.port || !same_endpoint(other->remote, wanted->remote)) {
            continue;
        }
        bool both_any = is_unspecified(other->local.address) && is_unspecified(wanted->local.address);
        if (same_address(other->local.address, wanted->local.address)
            || (both_any && (other->dual_stack || wanted->dual_stack))) {
            return true;
        }
    }
    return false;
}

uint16_t bind_socket(const Bind *bind) {
    bool is_any = is_unspecified(bind->local.address);
    /* Any port of any address: a gateway. */
    bool takes_all = is_any && (bind->how & EXPORTS_BULKHEAD_LISTENING_ANY_ADDRESS) != 0;
    bool is_by_module = bind->socket >> 63 != 0;
    if ((bind->local.port == 0 && !takes_all) || is_by_module) {
        return REASON_INVALID;
    }
    if (!is_any && !is_ours(bind->local.address)) {
        return REASON_NOT_AVAILABLE;
    }
    if (state.socket_count == SOCKETS) {
        return REASON_EXHAUSTED;
    }
    struct socket socket = {.handle = bind->socket, .local = bind->local, .remote = bind->remote};
    socket.dual_stack =
        is_any && !is_v4(bind->local.address) && (bind->how & EXPORTS_BULKHEAD_LISTENING_DUAL_STACK) != 0;
    if (is_in_use(&socket) || find_socket(bind->socket) != NULL) {
        return REASON_IN_USE;
    }
    uint32_t at = position_of(bind->socket);
    struct socket *place = &state.sockets[at];
    memmove(place + 1, place, (state.socket_count - at) * sizeof *place);
    *place = socket;
    state.socket_count++;
    index_sockets();
    return 0;
}

uint16_t close_socket(Handle handle) {
    struct socket *socket = find_socket(handle);
    if (socket == NULL) {
        return REASON_UNKNOWN;
    }
    state.socket_count--;
    memmove(socket, socket + 1, (size_t)(&state.sockets[state.socket_count] - socket) * sizeof *socket);
    index_sockets();
    return 0;
}

/* How much a socket says about these ends: 0 is not for it, else more is better. */
static int rank(const struct socket *socket, Endpoint local, Endpoint remote) {
    const Endpoint nobody = {{0, 0}, 0};
    bool is_for_one = same_endpoint(socket->remote, remote);
    bool is_for_all = same_endpoint(socket->remote, nobody);
    if (!is_for_one && !is_for_all) {
        return 0;
    }
    Address own = socket->local.address;
    bool is_any = is_unspecified(own) && is_v4(own) == is_v4(local.address);
    bool is_any_of_both = is_unspecified(own) && socket->dual_stack;
    if (socket->local.port == local.port) {
        if (same_address(own, local.address)) {
            return is_for_one ? 8 : 6;
        }
        if (is_any) {
            return is_for_one ? 7 : 5;
        }
        if (is_any_of_both) {
            return is_for_one ? 4 : 3;
        }
    }
    if (socket->local.port == 0 && is_for_all) {
        return is_any ? 2 : is_any_of_both;
    }
    return 0;
}

struct socket *find_taker(Endpoint local, Endpoint remote) {
    struct socket *best = NULL;
    int best_rank = 0;
    /* Sockets for any port are in the bucket of port 0. */
    const uint32_t buckets[2] = {bucket_of(local.port), bucket_of(0)};
    for (int b = 0; b < 2; b++) {
        for (uint16_t i = first[buckets[b]]; i != NONE; i = next[i]) {
            int ranked = rank(&state.sockets[i], local, remote);
            if (ranked > best_rank) {
                best = &state.sockets[i];
                best_rank = ranked;
            }
        }
    }
    return best;
}
