/* sha256.c - see sha256.h. */
#include "base/sha256.h"

#include <openssl/evp.h>

bool berth_sha256_hex(const void *data, size_t n, char out_hex[65])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    out_hex[0] = '\0';
    if (!EVP_Digest(n ? data : "", n, digest, &length, EVP_sha256(), NULL) || length != 32) return false;
    for (unsigned int i = 0; i < length; i++) {
        out_hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        out_hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    out_hex[64] = '\0';
    return true;
}
