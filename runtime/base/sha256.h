/* sha256.h - SHA-256 (OpenSSL behind it), as bytes and as lower-case hex. False when the library fails. */
#ifndef BERTH_BASE_SHA256_H
#define BERTH_BASE_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool berth_sha256(const void *data, size_t n, uint8_t out_digest[32]);
bool berth_sha256_hex(const void *data, size_t n, char out_hex[65]);

#endif
