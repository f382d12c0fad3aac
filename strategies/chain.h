/* chain.h - a model as a chain of atoms in execution order, and ways to cut it into runs, one run a device.
 *
 * An atom is what no strategy may divide: a NO_SPLIT module; a module below the root that owns tensors itself and holds
 * no NO_SPLIT module (a Linear's weight and bias are read by one op); else a single tensor. What holds no bytes joins
 * its neighbour. A run's bytes are those of the storages it needs: weights, KV for the context, and once more a tied
 * tensor's bytes where it is stored in another run. So a run never needs less than a part of it, which every function
 * here relies on. */
#ifndef BERTH_STRATEGIES_CHAIN_H
#define BERTH_STRATEGIES_CHAIN_H

#include <stdbool.h>

#include "berth/strategy.h"

typedef struct berth_chain {
    int32_t n;                       /* atoms */
    int32_t *first_node;             /* [n] the node that names the atom, for messages */
    unsigned __int128 *weights, *kv; /* [n + 1] prefix sums: stored bytes; KV bytes per token */
    int64_t context_tokens;
    int32_t n_pieces; /* nodes to be placed, in pre-order, and the atom that each belongs to */
    int32_t *piece_node, *piece_atom;
    int32_t n_ties; /* (owner, member) pairs of atoms that share a storage; sorted by owner tensor, then member */
    struct berth_chain_tie {
        int32_t tensor, owner, member; /* node that stores it; its atom; the other atom */
        uint64_t bytes;
    } * ties;
} berth_chain;

/* Error: BERTH_OUT_OF_MEMORY. deinit is fine on {0} and after a failure. */
berth_status berth_chain_init(berth_chain *c, const berth_strategy_input *in, berth_error *err);
void berth_chain_deinit(berth_chain *c);

/* Bytes that atoms [from, to) need on one device; UINT64_MAX where that is no 64-bit number. */
uint64_t berth_chain_bytes(const berth_chain *c, int32_t from, int32_t to);

/* What a device has for weights and KV: its budget less what is reserved. */
uint64_t berth_device_room(const berth_strategy_input *in, int32_t device);

/* Fills rooms in order, each as full as it gets; bounds[0] = from, run d is [bounds[d], bounds[d + 1]). Gives the atom
 * that found no place, c->n when all did. If this does not place all, no cut into runs in this order does. */
int32_t berth_chain_fill(const berth_chain *c, int32_t from, const uint64_t *rooms, int32_t n_rooms, int32_t *bounds);

/* Cuts [from, n) so that the fullest device, by share of its room, is as empty as can be; among those cuts one near to
 * even shares that leaves no device empty without need. BERTH_DOES_NOT_FIT without message when there is none;
 * BERTH_OUT_OF_MEMORY. */
berth_status berth_chain_balance(const berth_chain *c, int32_t from, const uint64_t *rooms, int32_t n_rooms,
                                 int32_t *bounds, berth_error *err);

/* Writes run s of one replica to device first + s, or to device order[s] where an order is given, and notes tied
 * tensors that are held twice. */
void berth_chain_place(const berth_chain *c, const berth_strategy_input *in, berth_strategy_output *out,
                       int32_t replica, int32_t first_device, const int32_t *order, int32_t n_runs,
                       const int32_t *bounds);

/* Notes that c->ties[tie] is held on two devices. */
void berth_chain_note_tie(const berth_chain *c, const berth_strategy_input *in, berth_strategy_output *out, int32_t tie,
                          int32_t owner, int32_t member);

/* balance and place over devices first .. first + n - 1, or refuse as berth_chain_refuse does. */
berth_status berth_chain_place_balanced(const berth_chain *c, const berth_strategy_input *in,
                                        berth_strategy_output *out, int32_t replica, int32_t first_device,
                                        int32_t n_devices, const char *strategy, berth_error *err);

/* Lays a cut over all devices as it is, one replica, and notes empty devices; or refuses as berth_chain_refuse_part does. */
berth_status berth_chain_place_cut(const berth_chain *c, const berth_strategy_input *in, berth_strategy_output *out,
                                   const int32_t *bounds, const char *strategy, berth_error *err);

/* BERTH_DOES_NOT_FIT for a scheme that does not look at sizes: its part for `device` needs `bytes`, more than there is
 * room for. */
berth_status berth_chain_refuse_part(const berth_chain *c, const berth_strategy_input *in, int32_t device,
                                     uint64_t bytes, const char *strategy, berth_error *err);

/* BERTH_DOES_NOT_FIT for devices first .. first + n - 1: what is needed, what is there, the bytes missing, what would
 * help. */
berth_status berth_chain_refuse(const berth_chain *c, const berth_strategy_input *in, int32_t first_device,
                                int32_t n_devices, const char *strategy, berth_error *err);

#endif
