/* sha256.h - SHA-256 (OpenSSL behind it) as lower-case hex. */
#ifndef BERTH_BASE_SHA256_H
#define BERTH_BASE_SHA256_H

#include <stdbool.h>
#include <stddef.h>

bool berth_sha256_hex(const void *data, size_t n, char out_hex[65]);

#endif
