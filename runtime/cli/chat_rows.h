/* chat_rows.h - rows of `berth tokenize --jsonl` that hold a conversation instead of a text. */
#ifndef BERTH_CLI_CHAT_ROWS_H
#define BERTH_CLI_CHAT_ROWS_H

#include "base/json.h"
#include "text/tokenizer.h"

bool cli_is_chat_row(const berth_json_node *row); /* it has a `layout` */

/* Ids of the prompt, as the reference libraries make it: added tokens in the texts are seen. `layout` is "internvl2_5",
 * "native", "qwen2.5" or "qwen3"; the conversation is `messages` (roles, text or text and image parts), or for
 * internvl2_5 what chat() takes: `system`, `history` [[question, answer], ...], `question`. `tiles` of each picture,
 * `tokens_per_tile`; `generation_prompt` false leaves out the answer's header. The prompt with a placeholder a picture
 * goes to `spelled`, in full to `expanded`. */
berth_status cli_chat_row_ids(const berth_tokenizer *t, const berth_json_node *row, berth_ids *ids,
                              berth_buffer *spelled, berth_buffer *expanded, berth_error *err);

#endif
