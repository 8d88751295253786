# Habits. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help run test check db migration openapi lock

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

run: ## start everything
	@./run

test: ## lint, types, import contracts, all tests, coverage
	@./test

check: ## only lint, types and import contracts
	@tools/check

db: ## bring the database to the newest revision
	@./run db upgrade head

migration: ## write the revision that tables and database differ by: make migration m="add a column"
	@./run db revision --autogenerate -m "$(or $(m),$(error say what it does: make migration m="add a column"))"

openapi: ## write openapi.json and docs/problems.md out of the code
	@bash -c '. tools/environment.sh && provide requirements-dev.txt && "$$venv/bin/python" tools/publish.py'

lock: ## remake both lock files, keeping versions (needs uv): make lock, make lock upgrade=1
	@tools/lock $(if $(upgrade),--upgrade)
