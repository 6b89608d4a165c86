"""A real model behind a real server says what it says as a folder; an audit over HTTP survives kill -9."""

from __future__ import annotations

import os

import pytest

from benchmarks.audit.endpoints import SERVED, VLLM_PYTHON, chat_template, vllm_serve
from benchmarks.audit.kills import run
from tests.servers import ServedModel, can_serve, transformers_serve
from verification.asking import Policy, ask_endpoint
from verification.endpoints import ChatEndpoint, CompletionsEndpoint
from verification.probe import Probe, parse_first_word

QUESTIONS = (
    "Is the sky blue on a clear day? Answer yes or no.",
    "Is fire cold? Answer yes or no.",
    "What is the capital of France? Answer with one word.",
)
WORDS = ("Yes", "No", "Paris", "The")
SYSTEM = "Answer briefly."
PROBES = [Probe(id=f"q-{i}", arm="keyed", index=i, carrier=0, prompt=each) for i, each in enumerate(QUESTIONS)]


@pytest.mark.slow
@pytest.mark.parametrize("server", ["transformers serve", "vLLM"])
def test_a_served_model_says_what_its_folder_says(tmp_path, server):
    from pipelines.assets import resolve_model
    from verification.suspects import LocalChatModel

    if server == "vLLM" and VLLM_PYTHON not in os.environ:
        pytest.skip(f"no vLLM: its Python, in an environment of its own, is named by ${VLLM_PYTHON}")
    if server != "vLLM" and not can_serve():
        pytest.skip("no transformers serve: pip install 'transformers[serving]'")
    folder = resolve_model("embedded:smollm2-135m-instruct").path
    local = LocalChatModel("local", folder, system=SYSTEM, max_new_tokens=4).ask(QUESTIONS)
    command = vllm_serve(folder) if server == "vLLM" else transformers_serve(folder)
    policy = Policy(concurrency=1, max_tokens=4, timeout=120.0)
    with ServedModel(command, seconds=600.0) as served:
        name = SERVED if server == "vLLM" else str(folder)
        asked = [ChatEndpoint("served", served.url, model=name, system=SYSTEM, policy=policy)]
        if server == "vLLM":
            template = chat_template(folder)
            asked.append(CompletionsEndpoint("served", served.url, model=name, template=template, policy=policy))
        for number, endpoint in enumerate(asked):
            answers = ask_endpoint(
                endpoint, PROBES, suspect="served", allowed=WORDS, parser="first_word/1",
                journal=tmp_path / str(number), policy=policy,
            )  # fmt: skip
            wanted = [parse_first_word(raw, WORDS) for raw in local]
            same = sum(a.parsed == word for a, word in zip(answers, wanted, strict=True))
            assert same >= len(wanted) - (
                server == "vLLM"
            )  # vLLM computes in float32, and this machine perhaps not: a near tie may fall otherwise
            assert sum(a.parsed is not None for a in answers) >= 2


@pytest.mark.long
def test_killed_anywhere_it_asks_nothing_twice_and_ends_with_the_same_transcript(tmp_path):
    tally = run(tmp_path, kills=5, seed=1)
    assert tally.kills == 5
    assert tally.queries > 0
    assert (tally.repeated, tally.computed_twice, tally.missing, tally.other) == (0, 0, 0, 0)
