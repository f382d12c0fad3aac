/* session_file.c - the bytes of a saved session: a head, the turns, the pictures as they were given, the core's KV, and
 * the SHA-256 of all of it at the end. Little-endian numbers.
 *
 * A file comes from a stranger even when its hash is right: every count and length is compared with the bytes that are
 * left before anything is taken, and a picture's digest is made anew, because it decides which cached features a
 * picture may use. */
#include <stdlib.h>
#include <string.h>

#include "api/session.h"
#include "base/sha256.h"
#include "base/status.h"

typedef struct file_head {
    char magic[8];
    uint32_t version, n_turns;
    uint64_t size; /* of the whole file */
    uint8_t model[32];
} file_head;

typedef struct turn_head {
    uint32_t role, n_contents;
} turn_head;

typedef struct content_head {
    uint32_t kind;
    int32_t width, height, n_tiles, max_tiles;
    uint32_t zero;
    uint64_t size;
} content_head;

static const char magic[8] = "berthSES";

enum { VERSION = 1, DIGEST = 32 };

static const char *const roles[] = {"system", "user", "assistant"};

/* ---- saving -------------------------------------------------------------------------------------------------------- */

static void put_turn(const berth_past_turn *t, berth_buffer *out)
{
    turn_head head = {.n_contents = (uint32_t)t->n_contents};
    while (strcmp(roles[head.role], t->role) != 0) head.role++;
    berth_buffer_append(out, &head, sizeof head);
    for (int32_t k = 0; k < t->n_contents; k++) {
        const berth_past_content *c = &t->contents[k];
        const content_head ch = {.kind = (uint32_t)c->kind,
                                 .width = c->width,
                                 .height = c->height,
                                 .n_tiles = c->picture.n_tiles,
                                 .max_tiles = c->picture.max_tiles,
                                 .size = c->blob->size};
        berth_buffer_append(out, &ch, sizeof ch);
        berth_buffer_append(out, c->blob->bytes, c->blob->size);
    }
}

static size_t bytes_of(const berth_past *p, size_t kv_size)
{
    size_t n = sizeof(file_head) + sizeof(uint64_t) + kv_size + DIGEST;
    for (int32_t i = 0; i < p->n_turns; i++) {
        n += sizeof(turn_head);
        for (int32_t k = 0; k < p->turns[i].n_contents; k++)
            n += sizeof(content_head) + p->turns[i].contents[k].blob->size;
    }
    return n;
}

berth_status berth_past_save(const berth_past *p, const uint8_t fingerprint[32], const uint8_t *kv, size_t kv_size,
                             berth_buffer *out, berth_error *err)
{
    file_head head = {.version = VERSION, .n_turns = (uint32_t)p->n_turns, .size = bytes_of(p, kv_size)};
    memcpy(head.magic, magic, sizeof magic);
    memcpy(head.model, fingerprint, sizeof head.model);
    const uint64_t n_kv = kv_size;
    uint8_t digest[DIGEST];
    berth_buffer_reserve(out, head.size);
    berth_buffer_append(out, &head, sizeof head);
    for (int32_t i = 0; i < p->n_turns; i++) put_turn(&p->turns[i], out);
    berth_buffer_append(out, &n_kv, sizeof n_kv);
    berth_buffer_append(out, kv, kv_size);
    if (!out->failed && berth_sha256(out->data, out->len, digest)) berth_buffer_append(out, digest, sizeof digest);
    if (!out->failed && out->len == head.size) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a session file of %llu bytes",
                      (unsigned long long)head.size);
}

/* ---- loading ------------------------------------------------------------------------------------------------------- */

typedef struct reader {
    const berth_model *model;
    const uint8_t *at;
    size_t left;
    int32_t n_pictures;
    berth_error *err;
} reader;

static berth_status bad(reader *r, const char *what)
{
    return BERTH_FAIL(r->err, BERTH_BAD_FILE, "not a whole saved session: %s", what);
}

static bool get(reader *r, void *out, size_t n)
{
    if (n > r->left) return false;
    memcpy(out, r->at, n);
    r->at += n;
    r->left -= n;
    return true;
}

static berth_status get_content(reader *r, berth_past_content *out)
{
    content_head h;
    if (!get(r, &h, sizeof h)) return bad(r, "it ends within a content");
    if (h.size > r->left) return bad(r, "a content is longer than the file");
    const bool is_text = h.kind == BERTH_CONTENT_TEXT;
    if (!is_text && h.kind != BERTH_CONTENT_IMAGE_BYTES && h.kind != BERTH_CONTENT_PIXELS)
        return bad(r, "a content of an unknown kind");
    if (h.zero != 0 || (is_text ? h.n_tiles != 0 || h.max_tiles != 0
                                : h.n_tiles < 1 || h.n_tiles > BERTH_MOST_TILES + 1 || h.max_tiles < 0 ||
                                      h.max_tiles > BERTH_MOST_TILES || ++r->n_pictures > BERTH_MOST_PICTURES))
        return bad(r, "tile counts that cannot be");
    char *bytes = malloc((size_t)h.size + 1);
    if (bytes != NULL) get(r, bytes, (size_t)h.size);
    *out = (berth_past_content){.kind = (berth_content_kind)h.kind,
                                .blob = berth_blob_create(bytes, (size_t)h.size),
                                .width = h.width,
                                .height = h.height,
                                .picture = {.n_tiles = h.n_tiles, .max_tiles = h.max_tiles, .first = -1}};
    if (out->blob == NULL) return BERTH_FAIL(r->err, BERTH_OUT_OF_MEMORY, "no memory for a session");
    const berth_content as_given = {
        .kind = out->kind, .data = out->blob->bytes, .size = out->blob->size, .width = h.width, .height = h.height};
    const berth_turn alone = {.role = "user", .content = &as_given, .n_content = 1};
    berth_status st = berth_turns_check(&alone, 1, NULL, NULL, NULL);
    if (st != BERTH_OK) return bad(r, "a content of a size that cannot be");
    if (!is_text && !berth_picture_digest(r->model, &as_given, &out->picture))
        return BERTH_FAIL(r->err, BERTH_OUT_OF_MEMORY, "no memory to hash a picture");
    return BERTH_OK;
}

static berth_status get_turn(reader *r, berth_past_turn *out)
{
    turn_head h;
    if (!get(r, &h, sizeof h)) return bad(r, "it ends within a turn");
    if (h.role >= sizeof roles / sizeof roles[0]) return bad(r, "a turn of nobody");
    if (h.n_contents > r->left / sizeof(content_head) || h.n_contents > BERTH_MOST_CONTENT)
        return bad(r, "a turn with more contents than the file has room for");
    *out = (berth_past_turn){.role = berth_past_role(roles[h.role]),
                             .contents = calloc((size_t)h.n_contents + 1, sizeof *out->contents)};
    if (out->contents == NULL) return BERTH_FAIL(r->err, BERTH_OUT_OF_MEMORY, "no memory for a session");
    berth_status st = BERTH_OK;
    while (st == BERTH_OK && out->n_contents < (int32_t)h.n_contents)
        st = get_content(r, &out->contents[out->n_contents++]);
    return st;
}

static berth_status get_turns(reader *r, uint32_t n, berth_past *out)
{
    if (n > r->left / sizeof(turn_head) || n > BERTH_MOST_TURNS) return bad(r, "more turns than the file has room for");
    out->turns = calloc((size_t)n + 1, sizeof *out->turns);
    if (out->turns == NULL) return BERTH_FAIL(r->err, BERTH_OUT_OF_MEMORY, "no memory for a session");
    berth_status st = BERTH_OK;
    while (st == BERTH_OK && out->n_turns < (int32_t)n) st = get_turn(r, &out->turns[out->n_turns++]);
    return st;
}

/* Head and hash; afterwards `r` stands at the turns and ends before the hash. */
static berth_status open_file(reader *r, const uint8_t fingerprint[32], file_head *h)
{
    const uint8_t *data = r->at;
    const size_t size = r->left;
    uint8_t digest[DIGEST];
    if (!get(r, h, sizeof *h) || memcmp(h->magic, magic, sizeof magic) != 0) return bad(r, "its mark is missing");
    if (h->version != VERSION)
        return BERTH_FAIL(r->err, BERTH_UNSUPPORTED, "a saved session of version %u; this berth reads version %d",
                          (unsigned)h->version, VERSION);
    if (h->size != size || r->left < DIGEST) return bad(r, "it is longer or shorter than it says");
    r->left -= DIGEST;
    if (!berth_sha256(data, size - DIGEST, digest))
        return BERTH_FAIL(r->err, BERTH_OUT_OF_MEMORY, "no memory to hash a session");
    if (memcmp(digest, data + size - DIGEST, DIGEST) != 0) return bad(r, "its SHA-256 is another");
    if (memcmp(h->model, fingerprint, sizeof h->model) != 0)
        return BERTH_FAIL(r->err, BERTH_UNSUPPORTED, "the session was saved with another model; open that one");
    return BERTH_OK;
}

berth_status berth_past_load(const berth_model *model, const uint8_t fingerprint[32], const uint8_t *data, size_t size,
                             berth_past *out, const uint8_t **out_kv, size_t *out_kv_size, berth_error *err)
{
    reader r = {.model = model, .at = data, .left = size, .err = err};
    file_head head;
    uint64_t n_kv = 0;
    *out = (berth_past){0};
    berth_status st = open_file(&r, fingerprint, &head);
    if (st == BERTH_OK) st = get_turns(&r, head.n_turns, out);
    if (st == BERTH_OK && (!get(&r, &n_kv, sizeof n_kv) || n_kv != r.left))
        st = bad(&r, "what it says of its KV does not agree with its size");
    if (st == BERTH_OK && r.n_pictures > 0 && !berth_model_data_config(model->data)->has_vision)
        st = bad(&r, "it has pictures, and the model reads text only");
    if (st != BERTH_OK) {
        berth_past_deinit(out);
        return st;
    }
    *out_kv = r.at;
    *out_kv_size = (size_t)n_kv;
    return BERTH_OK;
}
