"""What textgen sample refuses: one clear line, and no text."""

from __future__ import annotations

from pathlib import Path

import pytest
import song_model
from song_model import run

models = song_model.models  # fixture

BAD_SAMPLES: list[tuple[list[str], str | bytes | None, int, str]] = [
    (["songs", "--temperature", "-1"], None, 2, "temperature must be a number from 0"),
    (["songs", "--temperature", "hot"], None, 2, "--temperature must be a number. Received: 'hot'."),
    (["songs", "--top-p", "1.5"], None, 2, "--top-p must be"),
    (["songs", "--stop", ""], None, 1, "stop"),
    (
        ["songs", "--samplers", "top_k;heat"],
        None,
        1,
        "There is no sampler 'heat'. There are: 'penalties', 'dry', 'top_n_sigma',",
    ),
    (["songs", "--min-tokens", "9", "--max-tokens", "5"], None, 1, "--min-tokens (9) is more than --max-tokens (5)"),
    (
        ["songs", "--require", "Ode", "--ban", "O"],
        None,
        1,
        "--require must not contain a banned text: 'Ode' contains 'O'.",
    ),
    (["songs", "--require", "Ode" * 200], None, 1, "take 600 tokens, and --max-tokens is 500"),
    (["songs", "--logit-bias", "#99999=1"], None, 1, "there is no token #99999"),
    (["songs", "--mirostat", "3"], None, 2, "mirostat must be a number from 0 to 2"),
    (["songs", "--num", "0"], None, 2, "--num must be a number from 1 to 1,048,576. Received: 0."),
    (["songs", "--max-tokens", "0"], None, 2, "--max-tokens must be a number of at least 1. Received: 0."),
    (["songs", "--no-copy", "0"], None, 2, "--no-copy must be a number of at least 1"),
    (["nobody"], None, 1, "There are: songs"),
    (["songs", "--prompt", "-"], b"\xff\xfe\xff", 1, "not UTF-8"),
    (["songs", "--prompt", "half \udce2 a character"], None, 1, "not valid text"),
    (["songs", "--prompt-file", "missing.txt"], None, 1, "missing.txt"),
    (["songs", "--prompt-lines", "-"], "\n\n", 1, "There is no prompt in standard input."),
    (["songs", "--save-state", "-"], None, 2, "--save-state cannot be - (standard output): name a path."),
    (["songs", "--load-state", "-"], None, 2, "--load-state cannot be - (standard input): name a file."),
    (["songs", "--until", "noon"], None, 2, "noon"),
    (["songs", "--best-of", "2", "--num", "3"], None, 1, "--best-of (2) is less than num (3)"),
    (["songs", "--best-of", "2", "--num-beams", "3"], None, 2, "without random draws: leave out --best-of"),
    (["songs", "--num-beams", "3", "--temperature", "0.8"], None, 2, "without random draws: leave out --temperature"),
    (["songs", "--length-penalty", "2", "--top-k", "5"], None, 2, "--length-penalty searches for the likeliest text"),
    (["songs", "--num-beams", "3", "--samplers", "top_k"], None, 2, "without random draws: leave out --samplers"),
    (["songs", "--num-beams", "3", "--mirostat", "2"], None, 2, "without random draws: leave out --mirostat"),
    (["songs", "--num-beams", "3", "--seed", "1"], None, 2, "without random draws: leave out --seed"),
    (["songs", "--num-beams", "3", "--batch-size", "64"], None, 2, "without random draws: leave out --batch-size"),
    (
        ["songs", "--num-beams", "3", "--top-logprobs", "2", "--json"],
        None,
        2,
        "without random draws: leave out --top-logprobs",
    ),
    (["songs", "--top-logprobs", "0"], None, 2, "--top-logprobs needs --json"),
    (["songs", "--num-beams", "2", "--num", "3"], None, 1, "--num-beams 2 finds at most 2 texts, not 3"),
    (["songs", "--num-beams", "4", "--num-beam-groups", "3"], None, 1, "must be a multiple of --num-beam-groups (3)"),
    (["songs", "--length-penalty", "nan"], None, 2, "--length-penalty must be a number"),
    (["songs", "--length-penalty", "11"], None, 2, "--length-penalty must be a number from -10 to 10"),
    (["songs", "--label", "odes"], None, 1, "The model was trained without labels, so it knows none such as 'odes'"),
    (["songs", "--load-state", "missing.state"], None, 1, "Name a file that textgen tune-state or --save-state has"),
    (["songs", "--save-state", "state", "--num", "2"], None, 1, "A state belongs to one text"),
]


@pytest.mark.parametrize(("arguments", "stdin", "code", "expected"), BAD_SAMPLES, ids=[row[3] for row in BAD_SAMPLES])
def test_a_bad_sample_is_one_clear_line(
    models: Path, arguments: list[str], stdin: str | bytes | None, code: int, expected: str
) -> None:
    result = run("sample", *arguments, "--models-dir", str(models), stdin=stdin)
    assert result.exit_code == code
    assert expected in result.stderr.splitlines()[-1]
    assert not result.stdout


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('{"prompt": "The"}\n{"prompt": ', "prompts.jsonl, line 2 is not JSON"),
        ('{"prompt": "The", "seed": ' + "9" * 5000 + "}", "line 1 is not JSON: a number has too many digits."),
        ('\n{"prompt": "The"}\n\n{"prompt": ', "prompts.jsonl, line 4 is not JSON"),
        (
            '{"prompt": "The", "prompt": "A"}',
            "prompts.jsonl, line 1: the name 'prompt' occurs twice in an object. Give",
        ),
        ('\n\n{"prompt": 7}', 'prompts.jsonl, line 3: a line must be an object with "prompt"'),
        (
            '{"prompt": "The", "heat": 1}',
            "prompts.jsonl, line 1: There is no sampling setting 'heat' (did you mean 'heal'?).",
        ),
        (
            '{"prompt": "The", "max-tokens": 1}',
            "line 1: There is no sampling setting 'max-tokens' (did you mean 'max_tokens'?).",
        ),
        ('{"prompt": "The", "max_tokens": "1"}', "line 1: max_tokens must be an integer"),
        ('{"prompt": "The", "temperature": -1}', "prompts.jsonl, line 1: temperature must be a number from 0"),
        ('{"text": "The"}', 'prompts.jsonl, line 1: a line must be an object with "prompt"'),
        ('["The"]', 'prompts.jsonl, line 1: a line must be an object with "prompt"'),
        ('{"prompt": 7}', 'prompts.jsonl, line 1: a line must be an object with "prompt"'),
        (
            '{"prompt": "The"}\n{"prompt": "The", "label": "x"}',
            "prompts.jsonl, line 2: The model was trained without labels",
        ),
        ('{"prompt": "\\ud800"}', "prompts.jsonl, line 1: The text"),
        ('{"prompt": "The", "top_logprobs": 2}', "prompts.jsonl, line 1: top_logprobs needs --json."),
        ("\n", "There is no prompt in"),
    ],
)
def test_a_bad_file_of_prompts_is_named_with_its_line(models: Path, tmp_path: Path, lines: str, expected: str) -> None:
    (tmp_path / "prompts.jsonl").write_text(lines, encoding="utf-8")
    result = run("sample", "songs", "--models-dir", str(models), "--prompt-file", str(tmp_path / "prompts.jsonl"))
    assert result.exit_code == 1
    assert expected in result.stderr.splitlines()[-1]
    assert not result.stdout
