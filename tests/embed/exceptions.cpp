// exceptions.cpp - a C++ program whose callbacks fail with exceptions: they are kept at the callback's edge, the request is
// stopped, and they are thrown again on the program's own side. Prints "well" when all went so.
#include <atomic>
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>

#include "berth/berth.h"

namespace {

struct listener {
    int after;                  // tokens before it throws
    std::exception_ptr problem; // what it threw
    std::string text, finish;
    std::atomic<bool> is_over{false};
};

int32_t on_token(void *user, const berth_token *token)
{
    auto *l = static_cast<listener *>(user);
    try {
        if (token->index == l->after) throw std::runtime_error("token " + std::to_string(token->index));
        l->text.append(token->text, token->text_size);
        return 1;
    } catch (...) {
        l->problem = std::current_exception();
        return 0;
    }
}

void on_end(void *user, uint64_t, berth_status status, const berth_result *result, const berth_error *)
{
    auto *l = static_cast<listener *>(user);
    if (status == BERTH_OK) l->finish = result->finish_reason;
    l->is_over = true;
}

void must(berth_status status, const berth_error &err)
{
    if (status != BERTH_OK) throw std::runtime_error(err.message);
}

void expect_thrown(const listener &l, const char *what)
{
    if (!l.problem || l.finish != "cancelled") throw std::logic_error("nothing came through");
    try {
        std::rethrow_exception(l.problem);
    } catch (const std::runtime_error &e) {
        if (std::strcmp(e.what(), what) != 0) throw std::logic_error(e.what());
    }
}

void run(berth_engine *engine, berth_request request)
{
    berth_error err{};
    request.on_token = on_token;
    for (int round = 0; round < 3; round++) {
        listener waited{}, back{};
        waited.after = round;
        back.after = round + 1;
        berth_result result{};
        result.struct_size = sizeof result;
        request.on_token_user = &waited;
        must(berth_engine_run(engine, &request, &result, &err), err);
        waited.finish = result.finish_reason;
        if (result.n_tokens != round + 1) throw std::logic_error("tokens");
        berth_result_deinit(&result);
        request.on_token_user = &back;
        must(berth_engine_start(engine, &request, on_end, &back, nullptr, &err), err);
        while (!back.is_over) std::this_thread::yield();
        expect_thrown(waited, ("token " + std::to_string(round)).c_str());
        expect_thrown(back, ("token " + std::to_string(round + 1)).c_str());
    }
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    try {
        berth_error err{};
        berth_runtime *rt = nullptr;
        berth_model *model = nullptr;
        berth_plan *plan = nullptr;
        berth_engine *engine = nullptr;
        must(berth_runtime_create(nullptr, &rt, &err), err);
        must(berth_model_open(rt, argv[1], nullptr, &model, &err), err);
        must(berth_plan_create(model, nullptr, &plan, &err), err);
        must(berth_engine_create(plan, nullptr, &engine, &err), err);
        const char question[] = "What is the total?";
        berth_content content{};
        content.kind = BERTH_CONTENT_TEXT;
        content.data = question;
        content.size = sizeof question - 1;
        berth_turn turn{"user", &content, 1};
        berth_request request;
        berth_request_init(&request);
        request.turns = &turn;
        request.n_turns = 1;
        request.max_new_tokens = 64;
        request.ignore_stop = 1;
        run(engine, request);
        berth_engine_destroy(engine);
        berth_model_close(model);
        berth_runtime_destroy(rt);
    } catch (const std::exception &e) {
        std::fprintf(stderr, "%s\n", e.what());
        return 1;
    }
    std::puts("well");
    return 0;
}
