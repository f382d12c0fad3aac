/* jpeg.c - JPEG by libjpeg(-turbo), with its defaults (accurate DCT, fancy upsampling), which are Pillow's.
 *
 * Owns the error manager: libjpeg's own ends the process. Its errors jump back into `guarded`, the one function that
 * calls setjmp, and nothing else here may rely on locals across it. The end of the data before the end marker is an
 * error, as in Pillow; other warnings of libjpeg are not. Easy to get wrong: four components are always taken as
 * inverted. */
#include <stdio.h> /* jpeglib.h wants FILE */

#include <jerror.h>
#include <jpeglib.h>
#include <setjmp.h>
#include <stdlib.h>

#include "base/text.h"
#include "image/image_internal.h"

enum {
    max_scans = 100,        /* a progressive file needs about 10; each costs a walk over all coefficients */
    min_scans_of_large = 20 /* allowed however large the picture is */
};
static const uint64_t max_scan_pixels = UINT64_C(1) << 31; /* pixels times scans: some seconds of work */
static const long max_coefficient_bytes = 560L << 20;      /* of a progressive file: 2 bytes a sample */

typedef struct jpeg_job {
    struct jpeg_decompress_struct codec;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf back;
    char problem[JMSG_LENGTH_MAX]; /* what libjpeg said before it jumped */
    bool no_memory;
    berth_status status; /* of berth's own calls inside a step */
    const berth_image_limits *limits;
    berth_image *out;
    berth_error *err;
    uint8_t *cmyk; /* owned, [width][4]: a row of a picture with four components */
} jpeg_job;

static void stop(jpeg_job *job, const char *problem)
{
    snprintf(job->problem, sizeof job->problem, "%s", problem);
    longjmp(job->back, 1);
}

static void on_error(j_common_ptr codec)
{
    jpeg_job *job = codec->client_data;
    job->no_memory = codec->err->msg_code == JERR_OUT_OF_MEMORY;
    if (codec->err->msg_code == JERR_NO_BACKING_STORE) {
        stop(job, "as a progressive picture it is too large: its coefficients exceed the memory limit");
    }
    codec->err->format_message(codec, job->problem);
    longjmp(job->back, 1);
}

static void on_message(j_common_ptr codec)
{
    (void)codec;
}
static void on_warning(j_common_ptr codec, int level)
{
    (void)codec;
    (void)level;
}

static void on_progress(j_common_ptr codec)
{
    jpeg_job *job = codec->client_data;
    uint64_t scans = (uint64_t)job->codec.input_scan_number;
    uint64_t pixels = (uint64_t)job->codec.image_width * job->codec.image_height;
    if (scans > max_scans || (scans > min_scans_of_large && scans * pixels > max_scan_pixels)) {
        stop(job, "it has more scans than the limit");
    }
}

static void source_begin(j_decompress_ptr codec)
{
    (void)codec;
}
static boolean source_empty(j_decompress_ptr codec)
{
    stop(codec->client_data, "it is cut short");
    return FALSE;
}
static void source_skip(j_decompress_ptr codec, long n)
{
    if (n <= 0) return;
    if ((unsigned long)n > codec->src->bytes_in_buffer) stop(codec->client_data, "it is cut short");
    codec->src->next_input_byte += n;
    codec->src->bytes_in_buffer -= (size_t)n;
}

/* Runs one step; false when libjpeg, or the step itself, gave up. */
static bool guarded(jpeg_job *job, void (*step)(jpeg_job *))
{
    if (setjmp(job->back)) return false;
    step(job);
    return true;
}

static void read_header(jpeg_job *job)
{
    struct jpeg_decompress_struct *c = &job->codec;
    jpeg_create_decompress(c);
    c->src = &job->source;
    c->progress = &job->progress;
    c->mem->max_memory_to_use = max_coefficient_bytes;
    jpeg_read_header(c, TRUE);
    switch (c->num_components) {
    case 1:
    case 3: c->out_color_space = JCS_RGB; break;
    case 4: c->out_color_space = JCS_CMYK; break;
    default: stop(job, "it has neither 1, 3 nor 4 colour components");
    }
    job->status = berth_image_init(job->out, c->image_width, c->image_height, job->limits, "JPEG", job->err);
    if (job->status == BERTH_OK && c->num_components == 4) {
        job->cmyk = malloc((size_t)c->image_width * 4);
        if (!job->cmyk)
            job->status = BERTH_FAIL(job->err, BERTH_OUT_OF_MEMORY, "no memory for a row of a JPEG picture");
    }
}

/* Source: Pillow's Convert.c, cmyk2rgb, on inverted samples. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int32_t k = cmyk[4 * i + 3];
        for (size_t c = 0; c < 3; c++) {
            int32_t m = (255 - cmyk[4 * i + c]) * k + 128;
            int32_t v = k - (((m >> 8) + m) >> 8);
            rgb[3 * i + c] = (uint8_t)(v < 0 ? 0 : v);
        }
    }
}

static void read_rows(jpeg_job *job)
{
    struct jpeg_decompress_struct *c = &job->codec;
    size_t row_bytes = (size_t)job->out->width * 3;
    jpeg_start_decompress(c);
    while (c->output_scanline < c->output_height) {
        uint8_t *row = job->out->rgb + c->output_scanline * row_bytes;
        JSAMPROW to = job->cmyk ? job->cmyk : row;
        if (jpeg_read_scanlines(c, &to, 1) != 1) stop(job, "a row is missing");
        if (job->cmyk) cmyk_to_rgb(row, job->cmyk, (size_t)job->out->width);
    }
    jpeg_finish_decompress(c);
}

berth_status berth_jpeg_decode(const uint8_t *data, size_t n, const berth_image_limits *limits, berth_image *out,
                               berth_error *err)
{
    jpeg_job *job = calloc(1, sizeof *job);
    if (!job) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a JPEG decoder");
    job->limits = limits;
    job->out = out;
    job->err = err;
    job->codec.err = jpeg_std_error(&job->errors);
    job->codec.client_data = job;
    job->errors.error_exit = on_error;
    job->errors.output_message = on_message;
    job->errors.emit_message = on_warning;
    job->progress.progress_monitor = on_progress;
    job->source = (struct jpeg_source_mgr){.next_input_byte = data,
                                           .bytes_in_buffer = n,
                                           .init_source = source_begin,
                                           .fill_input_buffer = source_empty,
                                           .skip_input_data = source_skip,
                                           .resync_to_restart = jpeg_resync_to_restart,
                                           .term_source = source_begin};
    bool fine = guarded(job, read_header);
    if (fine && job->status == BERTH_OK) fine = guarded(job, read_rows);
    berth_status st = job->status;
    if (!fine && job->no_memory) {
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a JPEG decoder: %s", job->problem);
    } else if (!fine) {
        st = BERTH_FAIL(err, BERTH_BAD_FILE, "the JPEG file is damaged: %s", job->problem);
    }
    jpeg_destroy_decompress(&job->codec);
    free(job->cmyk);
    free(job);
    return st;
}
