# make demo   train a small network, export it, run it on a video, measure it: runs/demo/
# make test   everything that must hold before a change lands (includes make check)
# Both install what they need into .venv first.

PYTHON ?= python3
VENV   ?= .venv
# The package index for PyTorch alone. On a machine without a GPU, PyTorch's own CPU index saves gigabytes (see README).
TORCH_INDEX ?=

BIN       := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Two test workers on two cores: one thread each.
TEST_ENV  := OMP_NUM_THREADS=1 NDDR_THREADS=1

.PHONY: install demo test test-slow check format clean
.DEFAULT_GOAL := install

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install --quiet -e '.[cpu,data,train,dev]' -c constraints.txt
	touch $@

install: $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/python examples/demo.py --output runs/demo

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/python tests/simulated/bindings.py --install
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(INSTALLED)
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist worksteal -m slow

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist runs
