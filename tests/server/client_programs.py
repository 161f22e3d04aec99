"""Uses other people's clients, as their users do. Runs in their environments, not in that of the tests.

python client_programs.py openai http://127.0.0.1:8000/v1 PROMPT
"""

from __future__ import annotations

import json
import sys
from typing import Any


def use_openai(url: str, prompt: str) -> dict[str, Any]:
    from openai import BadRequestError, NotFoundError, OpenAI  # type: ignore[import-not-found,unused-ignore]

    client = OpenAI(base_url=url, api_key="none", max_retries=0)
    model = client.models.list().data[0].id
    assert client.models.retrieve(model).id == model
    how: dict[str, Any] = {"model": model, "seed": 4, "max_tokens": 12}
    whole = client.completions.create(prompt=prompt, logprobs=2, **how)
    assert len(whole.choices[0].logprobs.tokens) == whole.usage.completion_tokens
    events = client.completions.create(prompt=prompt, stream=True, stream_options={"include_usage": True}, **how)
    events = list(events)
    text = "".join(event.choices[0].text for event in events if event.choices)
    assert text == whole.choices[0].text
    assert events[-1].usage.completion_tokens == whole.usage.completion_tokens
    messages = [{"role": "user", "content": prompt}]
    chat = client.chat.completions.create(messages=messages, logprobs=True, top_logprobs=2, **how)
    assert chat.choices[0].message.content == text
    assert len(chat.choices[0].logprobs.content[0].top_logprobs) == 2
    deltas = client.chat.completions.create(messages=messages, stream=True, **how)
    assert "".join(event.choices[0].delta.content or "" for event in deltas) == text
    vectors = client.embeddings.create(model=model, input=[prompt, "b"])
    floats = client.embeddings.create(model=model, input=[prompt, "b"], encoding_format="float")
    assert len(vectors.data[0].embedding) == len(floats.data[0].embedding)
    assert max(abs(a - b) for a, b in zip(vectors.data[0].embedding, floats.data[0].embedding, strict=True)) < 1e-6
    for wrong, kind in (({"model": "nothing"}, NotFoundError), ({"temperature": -1}, BadRequestError)):
        try:
            client.completions.create(**{"prompt": "a", **how, **wrong})
        except kind as error:
            assert error.body["message"]  # noqa: PT017
        else:
            raise AssertionError(wrong)
    return {"text": text}


def use_langchain(url: str, prompt: str) -> dict[str, Any]:
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings  # type: ignore[import-not-found,unused-ignore]

    how: dict[str, Any] = {"base_url": url, "api_key": "none", "model": "tiny"}
    chat = ChatOpenAI(seed=4, max_tokens=12, temperature=0.8, **how)
    text = chat.invoke(prompt).content
    assert "".join(chunk.content for chunk in chat.stream(prompt)) == text
    vectors = OpenAIEmbeddings(check_embedding_ctx_length=False, **how).embed_documents([prompt, "b"])
    assert len(vectors) == 2
    return {"text": text}


def use_llm(url: str, prompt: str) -> dict[str, Any]:
    import os
    import pathlib
    import subprocess
    import tempfile

    texts = []
    with tempfile.TemporaryDirectory() as folder:
        models = f"- model_id: mine\n  model_name: tiny\n  api_base: {url}\n  completion: true\n"
        models += f"- model_id: chat\n  model_name: tiny\n  api_base: {url}\n"
        pathlib.Path(folder, "extra-openai-models.yaml").write_text(models)
        environment = {**os.environ, "LLM_USER_PATH": folder}
        for model in ("mine", "chat"):
            for stream in ([], ["--no-stream"]):
                command = [
                    sys.executable,
                    "-m",
                    "llm",
                    "-m",
                    model,
                    prompt,
                    "-o",
                    "seed",
                    "4",
                    "-o",
                    "max_tokens",
                    "12",
                ]
                done = subprocess.run([*command, *stream], env=environment, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stderr
                texts.append(done.stdout.rstrip("\n"))
    assert len(set(texts)) == 1, texts
    return {"text": texts[0]}


def use_lm_eval(url: str, prompt: str) -> dict[str, Any]:
    from lm_eval.api.instance import Instance  # type: ignore[import-not-found,unused-ignore]
    from lm_eval.models.openai_completions import (  # type: ignore[import-not-found,unused-ignore]
        LocalCompletionsAPI,
    )

    model = LocalCompletionsAPI(
        base_url=f"{url}/completions", model="tiny", tokenizer_backend="remote", batch_size=1, max_length=2048
    )
    answers = model.loglikelihood([Instance("loglikelihood", {}, ("", prompt), 0)])
    return {"log_probability": float(answers[0][0])}


USES = {"openai": use_openai, "langchain": use_langchain, "llm": use_llm, "lm_eval": use_lm_eval}

if __name__ == "__main__":
    print(json.dumps(USES[sys.argv[1]](sys.argv[2], sys.argv[3])))
