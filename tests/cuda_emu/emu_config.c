/* emu_config.c - reading the emulator's configuration; the form is in emu.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emu_internal.h"

static uint64_t size_of(const char *text)
{
    char *end;
    uint64_t n = strtoull(text, &end, 0);
    static const struct {
        const char *unit;
        int shift;
    } units[] = {{"KiB", 10}, {"MiB", 20}, {"GiB", 30}};
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(end, units[i].unit) == 0) return n << units[i].shift;
    }
    return n;
}

static bool set_gpu(emu_config *c, int g, const char *key, int peer, const char *value)
{
    if (strcmp(key, "cap") == 0)
        c->gpu[g].capability = atoi(value);
    else if (strcmp(key, "mem") == 0)
        c->gpu[g].memory = size_of(value);
    else if (strcmp(key, "context_mem") == 0)
        c->gpu[g].context_memory = size_of(value);
    else if (strcmp(key, "mode") == 0)
        c->gpu[g].mode = atoi(value);
    else if (strcmp(key, "busy") == 0)
        c->gpu[g].busy = atoi(value);
    else if (strcmp(key, "host_gbps") == 0)
        c->gpu[g].host_gbps = atoi(value) > 0 ? atoi(value) : 1;
    else if (strcmp(key, "name") == 0)
        snprintf(c->gpu[g].name, sizeof c->gpu[g].name, "%s", value);
    else if (strcmp(key, "peer") == 0) {
        for (int p = 0; p < EMU_MAX_GPUS; p++) {
            if (peer < 0 || peer == p) c->gpu[g].peer[p] = atoi(value);
        }
    } else if (strcmp(key, "lie") == 0) {
        for (int p = 0; p < EMU_MAX_GPUS; p++) {
            if (peer < 0 || peer == p) c->gpu[g].lie[p] = atoi(value);
        }
    } else if (strcmp(key, "peer_gbps") == 0) {
        for (int p = 0; p < EMU_MAX_GPUS; p++) {
            if (peer < 0 || peer == p) c->gpu[g].peer_gbps[p] = atoi(value) > 0 ? atoi(value) : 1;
        }
    } else
        return false;
    return true;
}

static bool set_skipped_wait(emu_config *c, const char *value)
{
    char *dot;
    const uint64_t n = strtoull(value, &dot, 0);
    if (*dot != '.')
        c->skip_wait = n;
    else {
        c->skip_event = (uint32_t)n;
        c->skip_record = (uint32_t)strtoul(dot + 1, NULL, 0);
    }
    return true;
}

static bool set_world(emu_config *c, const char *key, const char *value)
{
    if (strcmp(key, "gpus") == 0) {
        c->n_gpus = atoi(value);
        return c->n_gpus >= 0 && c->n_gpus <= EMU_MAX_GPUS;
    }
    if (strcmp(key, "driver") == 0)
        c->driver = atoi(value);
    else if (strcmp(key, "init") == 0)
        c->init = atoi(value);
    else if (strcmp(key, "cublaslt") == 0)
        c->cublaslt = atoi(value);
    else if (strcmp(key, "seed") == 0)
        c->seed = strtoull(value, NULL, 0);
    else if (strcmp(key, "exit") == 0)
        c->exit_code = atoi(value);
    else if (strcmp(key, "hold_ms") == 0)
        c->hold_ms = atoi(value);
    else if (strcmp(key, "lazy") == 0)
        c->lazy = atoi(value);
    else if (strcmp(key, "skip_wait") == 0)
        return set_skipped_wait(c, value);
    else if (strcmp(key, "skip_copy") == 0)
        c->skip_copy = strtoull(value, NULL, 0);
    else if (strcmp(key, "fail") == 0) {
        char *colon;
        c->fail_call = strtoull(value, &colon, 0);
        if (*colon != ':') return false;
        c->fail_code = atoi(colon + 1);
    } else
        return false;
    return true;
}

static bool set(emu_config *c, char *item)
{
    char *value = strchr(item, '=');
    if (!value) return false;
    *value++ = '\0';
    if (set_world(c, item, value)) return true;
    int gpu = -1, peer = -1;
    char *dot = strchr(item, '.');
    if (dot) {
        *dot++ = '\0';
        char *second = strchr(dot, '.');
        gpu = atoi(dot);
        if (second) peer = atoi(second + 1);
        if (gpu < 0 || gpu >= EMU_MAX_GPUS || peer >= EMU_MAX_GPUS) return false;
    }
    for (int g = 0; g < EMU_MAX_GPUS; g++) {
        if ((gpu < 0 || gpu == g) && !set_gpu(c, g, item, peer, value)) return false;
    }
    return true;
}

static bool read_text(emu_config *c, char *text)
{
    char *rest = NULL;
    for (char *item = strtok_r(text, ";\n", &rest); item; item = strtok_r(NULL, ";\n", &rest)) {
        if (!set(c, item)) {
            fprintf(stderr, "cuda_emu: cannot read \"%s\" of the configuration\n", item);
            return false;
        }
    }
    return true;
}

bool emu_config_read(emu_config *c, const char *text)
{
    *c = (emu_config){.n_gpus = 1, .driver = 12040, .cublaslt = 1, .seed = 1};
    for (int g = 0; g < EMU_MAX_GPUS; g++) {
        c->gpu[g].capability = 80;
        c->gpu[g].memory = 256u << 20;
        snprintf(c->gpu[g].name, sizeof c->gpu[g].name, "Emulated GPU");
        c->gpu[g].host_gbps = 12;
        for (int p = 0; p < EMU_MAX_GPUS; p++) {
            c->gpu[g].peer[p] = 1;
            c->gpu[g].peer_gbps[p] = 25;
        }
    }
    char copy[8192] = "";
    if (text && text[0] == '@') {
        FILE *f = fopen(text + 1, "r");
        if (!f) {
            fprintf(stderr, "cuda_emu: cannot open %s\n", text + 1);
            return false;
        }
        copy[fread(copy, 1, sizeof copy - 1, f)] = '\0';
        fclose(f);
    } else if (text) {
        snprintf(copy, sizeof copy, "%s", text);
    }
    return read_text(c, copy);
}
