/* Fragments of datagrams (RFC 791 3.2, RFC 8200 4.5): their bytes wait in the host's hold slots, here are the ranges. A whole
 * datagram is handed back to the host's split, like any frame. */

#include <string.h>

#include "module.h"

_Static_assert(LIMITS_HOLDS <= 64, "a bit for each slot");

/* Slots that were given back in this step: the host has them free only after it, and so their bytes. */
static uint64_t freed;
static uint32_t freed_bytes;

uint32_t slot_end(const struct slot *slot) {
    return slot->run_count == 0 ? 0 : slot->runs[slot->run_count - 1].end;
}

static void free_slot(uint32_t number) {
    freed |= (uint64_t)1 << number;
    freed_bytes += slot_end(&state.slots[number]);
    memset(&state.slots[number], 0, sizeof state.slots[number]);
}

static void give_up(uint32_t number) {
    free_slot(number);
    tell(EXPORTS_BULKHEAD_EVENT_RELEASE)->val.release = number;
}

/* The slot that a datagram's fragment belongs to, or an empty one, within all bounds; LIMITS_HOLDS where there is none. */
static uint32_t slot_for(Address source, Address destination, const struct fragment *fragment, uint32_t end) {
    uint64_t held = (uint64_t)freed_bytes + end;
    uint32_t empty = LIMITS_HOLDS, own = LIMITS_HOLDS;
    for (uint32_t i = 0; i < LIMITS_HOLDS; i++) {
        const struct slot *slot = &state.slots[i];
        held += slot_end(slot);
        if (slot->run_count == 0) {
            bool is_free = i < state.holds && (freed >> i & 1) == 0;
            empty = is_free && empty == LIMITS_HOLDS ? i : empty;
        } else if (same_address(slot->source, source) && same_address(slot->destination, destination)
                   && slot->identification == fragment->identification) {
            own = i;
        }
    }
    if (held > LIMITS_HOLDS_BYTES) {
        return LIMITS_HOLDS;
    }
    return own < LIMITS_HOLDS ? own : empty;
}

/* What a fragment was to its datagram. */
enum taken {
    NEW,
    /* Exactly what is there already. */
    AGAIN,
    /* It overlaps, or contradicts the length (RFC 5722): the datagram cannot be right. */
    CONTRADICTS,
};

static enum taken take_run(struct slot *slot, uint32_t start, uint32_t end, bool more) {
    bool is_too_long = slot->length > 0 && (end > slot->length || (!more && end != slot->length));
    if (is_too_long || (!more && slot_end(slot) > end)) {
        return CONTRADICTS;
    }
    uint32_t at = 0;
    while (at < slot->run_count && slot->runs[at].end <= start) {
        at++;
    }
    struct run *run = &slot->runs[at];
    bool is_there = at < slot->run_count;
    if (is_there && run->start <= start && run->end >= end) {
        return AGAIN;
    }
    if ((is_there && run->start < end) || slot->run_count == LIMITS_ISLANDS) {
        return CONTRADICTS;
    }
    bool joins_before = at > 0 && slot->runs[at - 1].end == start;
    bool joins_after = is_there && run->start == end;
    if (joins_before && joins_after) {
        slot->runs[at - 1].end = run->end;
        memmove(run, run + 1, (--slot->run_count - at) * sizeof *run);
    } else if (joins_before) {
        slot->runs[at - 1].end = end;
    } else if (joins_after) {
        run->start = start;
    } else {
        memmove(run + 1, run, (slot->run_count++ - at) * sizeof *run);
        *run = (struct run){start, end};
    }
    slot->length = more ? slot->length : end;
    return NEW;
}

bool take_fragment(uint32_t index, const Segment *segment, const uint8_t *header, Time now) {
    Address source, destination;
    struct fragment fragment;
    if (!read_addresses(header, segment->header_length, &source, &destination) || !is_ours(destination)
        || !read_fragment(header, segment->header_length, &fragment)) {
        return false;
    }
    /* RFC 791 3.2: the protocol is part of an IPv4 datagram's name, and others' fragments are none of ours. IPv6's
     * identification stands alone, and what comes first in the datagram need not be UDP. */
    if (is_v4(source) && fragment.protocol != PROTOCOL_UDP) {
        return false;
    }
    /* RFC 8200 4.5: all but the last are multiples of eight. The first one holds the whole UDP header. */
    uint32_t length = segment->payload;
    bool is_sane = length > 0 && length <= LIMITS_HOLD_BYTES - fragment.offset && (!fragment.more || length % 8 == 0)
                   && (fragment.offset > 0 || length >= 8);
    uint32_t end = fragment.offset + length;
    uint32_t number = is_sane ? slot_for(source, destination, &fragment, end) : LIMITS_HOLDS;
    if (number == LIMITS_HOLDS) {
        return false;
    }
    struct slot *slot = &state.slots[number];
    if (slot->run_count == 0) {
        slot->source = source;
        slot->destination = destination;
        slot->identification = fragment.identification;
        slot->deadline = now + LIMITS_HOLD_TIME;
    }
    switch (take_run(slot, fragment.offset, end, fragment.more)) {
    case CONTRADICTS:
        give_up(number);
        return false;
    case AGAIN:
        return true;
    case NEW:
        break;
    }
    place(index, length, EXPORTS_BULKHEAD_TARGET_HOLD, number, fragment.offset);
    if (slot->length > 0 && slot->run_count == 1 && slot->runs[0].start == 0 && slot->runs[0].end == slot->length) {
        Event *event = tell(EXPORTS_BULKHEAD_EVENT_RESUBMIT);
        event->val.resubmit.slot = number;
        event->val.resubmit.length = slot->length;
        free_slot(number);
    }
    return true;
}

void expire_fragments(Time now) {
    for (uint32_t i = 0; i < LIMITS_HOLDS; i++) {
        if (state.slots[i].run_count > 0 && state.slots[i].deadline <= now) {
            give_up(i);
        }
    }
}

void end_fragments(void) {
    freed = 0;
    freed_bytes = 0;
}

/* When the next one has waited too long. */
Time fragments_deadline(void) {
    Time first = NEVER;
    for (uint32_t i = 0; i < LIMITS_HOLDS; i++) {
        const struct slot *slot = &state.slots[i];
        first = slot->run_count > 0 && slot->deadline < first ? slot->deadline : first;
    }
    return first;
}
