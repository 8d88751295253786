# Habits. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help run test check db up migration new-module docs lock bench release deploy-check postgres-check

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: ## start everything
	@./run

test: ## lint, types, import contracts, all tests, coverage
	@./test

check: ## only lint, types and import contracts
	@tools/check

db: ## bring the database to the newest revision
	@./run db upgrade head

up: ## everything in containers, with code taken up as it is saved (needs Docker Compose)
	@docker compose --file deploy/compose/development.yaml up --build --watch

migration: ## write the revision that tables and database differ by: make migration m="add a column"
	@./run db revision --autogenerate -m "$(or $(m),$(error say what it does: make migration m="add a column"))"

new-module: ## make a module after the students, with migration, tests and page: make new-module name=pets
	@bash -euc '. tools/environment.sh; provide requirements-dev.txt; exec "$$venv/bin/kinfolk" new module "$$@"' \
	  new-module "$(or $(name),$(error say its name in the plural: make new-module name=pets))" $(if $(one),--one "$(one)")

docs: ## write openapi.json and the pages of docs/ that are made out of the code
	@bash -c '. tools/environment.sh && provide requirements-dev.txt && "$$venv/bin/python" tools/made_pages.py'

lock: ## remake both lock files, keeping versions (needs uv): make lock, make lock upgrade=1
	@tools/lock $(if $(upgrade),--upgrade)

bench: ## measure every operation beside its limit, into docs/performance.md: make bench, make bench COMPARE=URL QUICK=1
	@bash -euc '. tools/environment.sh; provide requirements-dev.txt; exec "$$venv/bin/python" -m bench "$$@"' \
	  bench $(if $(COMPARE),--compare "$(COMPARE)") $(if $(QUICK),--imports 0)

release: ## build and check a release, and write its heading into the changelog: make release version=0.2.0
	@tools/release "$(version)"

deploy-check: ## what `make test` has no time for: build and start the image, run units under systemd, apply Ansible (root, Debian)
	@tools/deploy-check

postgres-check: ## what `make test` has no time for: all tests that ask a database, on PostgreSQL 15, 16, 17 and 18
	@tools/postgres-check
