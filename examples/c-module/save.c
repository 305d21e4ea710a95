/* The state as bytes: numbers of 64 bits, little endian as WebAssembly's memory is, in one canonical order.
 *
 * It is guest-udp's format (guest-udp/core/src/save.rs). A module cannot trust a state: it may be another's, or cut. */

#include <string.h>

#include "module.h"

_Static_assert(LIMITS_ISLANDS > 0, "a slot has runs");

/* ---- writing */

struct writer {
    uint8_t *at;
};

static void put(struct writer *to, uint64_t word) {
    memcpy(to->at, &word, sizeof word);
    to->at += sizeof word;
}

static void put_address(struct writer *to, Address address) {
    put(to, address.high);
    put(to, address.low);
}

static void put_endpoint(struct writer *to, Endpoint endpoint) {
    put_address(to, endpoint.address);
    put(to, endpoint.port);
}

size_t save_state(uint8_t to[static STATE_WORDS * 8]) {
    struct writer writer = {to};
    put(&writer, STATE_FORMAT);
    put(&writer, state.errors_paid);
    put(&writer, state.ttl);
    put(&writer, state.socket_count);
    for (uint32_t i = 0; i < COUNTERS; i++) {
        put(&writer, state.counters[i]);
    }
    for (uint32_t i = 0; i < state.socket_count; i++) {
        const struct socket *socket = &state.sockets[i];
        put(&writer, socket->handle);
        put_endpoint(&writer, socket->local);
        put_endpoint(&writer, socket->remote);
        put(&writer, (uint64_t)socket->traffic_class << 16 | (uint64_t)socket->ttl << 8 | socket->dual_stack);
    }
    for (uint32_t i = 0; i < LIMITS_HOLDS; i++) {
        const struct slot *slot = &state.slots[i];
        if (slot->run_count == 0) {
            continue;
        }
        put(&writer, i);
        put_address(&writer, slot->source);
        put_address(&writer, slot->destination);
        put(&writer, slot->identification);
        put(&writer, slot->length);
        put(&writer, slot->deadline);
        put(&writer, slot->run_count);
        for (uint32_t r = 0; r < slot->run_count; r++) {
            put(&writer, (uint64_t)slot->runs[r].start << 32 | slot->runs[r].end);
        }
    }
    return (size_t)(writer.at - to);
}

/* ---- reading */

struct reader {
    const uint8_t *at, *end;
    /* Something was not there, or not what it can be; whatever is read then is 0. */
    bool is_bad;
};

/* The next word, which is at most `most`. */
static uint64_t get(struct reader *from, uint64_t most) {
    uint64_t word = 0;
    if (from->is_bad || (size_t)(from->end - from->at) < sizeof word) {
        from->is_bad = true;
        return 0;
    }
    memcpy(&word, from->at, sizeof word);
    from->at += sizeof word;
    from->is_bad = word > most;
    return from->is_bad ? 0 : word;
}

static Address get_address(struct reader *from) {
    uint64_t high = get(from, UINT64_MAX);
    return (Address){high, get(from, UINT64_MAX)};
}

static Endpoint get_endpoint(struct reader *from) {
    Address address = get_address(from);
    return (Endpoint){address, (uint16_t)get(from, UINT16_MAX)};
}

static void get_socket(struct reader *from, struct socket *socket) {
    /* A handle of the host's: bit 63 is not set. */
    socket->handle = get(from, UINT64_MAX >> 1);
    socket->local = get_endpoint(from);
    socket->remote = get_endpoint(from);
    uint64_t options = get(from, 0xffffff);
    socket->dual_stack = (options & 0xff) == 1;
    socket->ttl = (uint8_t)(options >> 8);
    socket->traffic_class = (uint8_t)(options >> 16);
    from->is_bad = from->is_bad || (options & 0xff) > 1;
}

static void get_slot(struct reader *from, struct slot *slot) {
    slot->source = get_address(from);
    slot->destination = get_address(from);
    slot->identification = (uint32_t)get(from, UINT32_MAX);
    slot->length = (uint32_t)get(from, LIMITS_HOLD_BYTES);
    slot->deadline = get(from, UINT64_MAX);
    slot->run_count = (uint32_t)get(from, LIMITS_ISLANDS);
    from->is_bad = from->is_bad || slot->run_count == 0;
    for (uint32_t r = 0; r < slot->run_count; r++) {
        uint64_t word = get(from, UINT64_MAX);
        struct run run = {(uint32_t)(word >> 32), (uint32_t)word};
        /* Runs that touch would be one. */
        bool is_apart = r == 0 || slot->runs[r - 1].end < run.start;
        from->is_bad = from->is_bad || !is_apart || run.start >= run.end || run.end > LIMITS_HOLD_BYTES;
        slot->runs[r] = run;
    }
    from->is_bad = from->is_bad || (slot->length > 0 && slot_end(slot) > slot->length);
}

bool load_state(const uint8_t *bytes, size_t length, bool keeps_ttl) {
    struct reader from = {bytes, bytes + length, false};
    if (length % 8 != 0 || get(&from, UINT64_MAX) != STATE_FORMAT) {
        return false;
    }
    state.errors_paid = get(&from, UINT64_MAX);
    uint8_t ttl = (uint8_t)get(&from, UINT8_MAX);
    state.ttl = keeps_ttl ? state.ttl : ttl;
    state.socket_count = (uint32_t)get(&from, SOCKETS);
    for (uint32_t i = 0; i < COUNTERS; i++) {
        state.counters[i] = get(&from, UINT64_MAX);
    }
    for (uint32_t i = 0; i < state.socket_count; i++) {
        get_socket(&from, &state.sockets[i]);
        bool is_in_order = i == 0 || state.sockets[i - 1].handle < state.sockets[i].handle;
        from.is_bad = from.is_bad || !is_in_order;
    }
    uint64_t held = 0;
    /* Slots come in the order of their numbers. */
    for (uint32_t least = 0; !from.is_bad && from.at < from.end;) {
        uint32_t number = (uint32_t)get(&from, LIMITS_HOLDS - 1);
        from.is_bad = from.is_bad || number < least;
        get_slot(&from, &state.slots[number]);
        held += slot_end(&state.slots[number]);
        least = number + 1;
    }
    index_sockets();
    return !from.is_bad && ttl > 0 && held <= LIMITS_HOLDS_BYTES;
}
