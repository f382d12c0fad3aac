/* eval_score.h - what is right in a set of answers: fields of JSON objects against their labels. No engine here.
 *
 * A field counts as there when its value is not null, "" or blanks. Texts are compared without blanks around them, all else as JSON
 * values. */
#ifndef BERTH_CLI_EVAL_SCORE_H
#define BERTH_CLI_EVAL_SCORE_H

#include "base/json.h"

typedef struct eval_field {
    char *name;         /* owned */
    int64_t n_slots;    /* labels that name it */
    int64_t n_same;     /* of these, answered with the label's value, or left out where the label is empty */
    int64_t n_labelled; /* labels with a value */
    int64_t n_answered; /* answers with a value */
    int64_t n_right;    /* answers with the label's value */
} eval_field;

typedef struct eval_score {
    eval_field *fields; /* owned, in order of appearance */
    int32_t n_fields;
    eval_field others;    /* fields of answers that no label names */
    eval_field all;       /* sums */
    int64_t n_rows;       /* answers scored */
    int64_t n_objects;    /* that hold a JSON object */
    int64_t n_exact;      /* objects with every field right and none besides */
    int64_t n_with_text;  /* labels that give the answer's text */
    int64_t n_exact_text; /* of these, answered to the letter */
} eval_score;

/* Scores one answer. `labels` is an object of fields; `want` the answer's exact text or NULL; only the fields in `only`
 * (n_only names) count, all when n_only is 0. An answer may stand in a ``` fence or a sentence: its outermost { } counts. */
berth_status eval_score_add(eval_score *s, const berth_json_node *labels, const char *want, const char *answer,
                            char *const *only, int32_t n_only, berth_error *err);
void eval_score_deinit(eval_score *s);

/* 0 where there is nothing to divide by. */
double eval_accuracy(const eval_field *f);
double eval_precision(const eval_field *f);
double eval_recall(const eval_field *f);
double eval_f1(const eval_field *f);

#endif
