/* sha256.c - see sha256.h. */
#include "base/sha256.h"

#include <openssl/evp.h>

bool berth_sha256(const void *data, size_t n, uint8_t out_digest[32])
{
    return EVP_Digest(n ? data : "", n, out_digest, NULL, EVP_sha256(), NULL);
}

bool berth_sha256_hex(const void *data, size_t n, char out_hex[65])
{
    uint8_t digest[32];
    out_hex[0] = '\0';
    if (!berth_sha256(data, n, digest)) return false;
    for (int i = 0; i < 32; i++) {
        out_hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        out_hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    out_hex[64] = '\0';
    return true;
}
