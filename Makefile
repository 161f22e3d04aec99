# Everything a person or a machine runs here. Each target makes its own environment in .venv.
.PHONY: demo test test-slow test-oracles test-clients test-browsers check readme picture clean
.NOTPARALLEL:  # they share .venv and the cores

demo: ; scripts/demo
test: ; scripts/test
test-slow: ; scripts/setup dask clouds && scripts/test -m slow -n 0
test-oracles: ; scripts/setup oracles && scripts/test -m oracles -n 0
test-clients: ; scripts/test -m clients -n 0
test-browsers: ; scripts/test -m browsers -n 0
check: ; scripts/check
readme: ; scripts/update-readme
picture: ; scripts/setup && .venv/bin/python scripts/picture.py
clean:
	rm -rf build/lib build/bdist.* *.egg-info .pytest_cache .mypy_cache .ruff_cache
	rm -rf .venv-old .venv-new
	if ls .venv/.installed* > /dev/null 2>&1 && [ ! -e .venv/.kept ]; then mv .venv .venv-old && rm -rf .venv-old; \
	elif [ -e .venv ]; then echo "Keeping .venv, which scripts/setup did not make." >&2; fi
