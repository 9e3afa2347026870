# Everything runs in the virtual environment .venv; "make setup" builds it from the lock files.

BIN := .venv/bin

.PHONY: help setup run deb check test test-install format lock

help:
	@echo "make setup   virtual environment with what the appliance needs"
	@echo "make run     set up, then run the appliance with the defaults on localhost"
	@echo "make deb     Debian package of this release, in dist/"
	@echo "make test    set up with the test tools, then check and run all tests (as root)"
	@echo "make test-install   of these, those of the package on a machine with systemd (as root)"
	@echo "make check   formatting, lint, types, import rules"
	@echo "make format  format the code and fix what ruff can fix"
	@echo "make lock    resolve the lock files anew (needs uv)"

setup:
	scripts/setup

run: setup
	exec $(BIN)/edge run

deb: setup
	scripts/make-deb

check:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test:
	scripts/setup --dev
	scripts/install-test-packages
	scripts/test

test-install: setup
	scripts/setup --dev
	scripts/install-test-packages
	$(BIN)/pytest -s tests/install

format:
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:
	scripts/lock
