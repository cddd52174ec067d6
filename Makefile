# All tasks for this tree. `make help` lists them.

PREFIX  ?= /usr/local
DESTDIR ?=
GO      ?= go

# The Go toolchain writes commit, date and tag into the programs. It fails where git does.
vcs := $(shell git status >/dev/null 2>&1 && echo true || echo false)
# On a Mac CGO_ENABLED=1 adds the keychain; see build-all.
CGO_ENABLED ?= 0
# Without the tag, urfave/cli links a Markdown parser, whose initialization takes a fifth of the start of broker.
build = CGO_ENABLED=$(CGO_ENABLED) $(GO) build -trimpath -buildvcs=$(vcs) -tags urfave_cli_no_docs -ldflags '-s -w'

# The directory and the versions of the npm tools that `make test-clients` runs; they are outside of this tree.
export BROKER_CLIENTS ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/broker-clients
npm_packages := serverless@3.40.0 osls@4.3.1 aws-sdk@2.1693.0 aws-cdk@2.1148.1 \
	@aws-sdk/client-sts@3.1169.0 @aws-sdk/credential-providers@3.1169.0 aws-crt@1.33.2 \
	@cloud-copilot/iam-simulate@0.1.173 @devcontainers/cli@0.89.0
moto := moto[server]==5.2.1
crane := github.com/google/go-containerregistry/cmd/crane@v0.22.1

# How long `make soak` takes.
SOAK ?= 1h

# How long each fuzz target runs in `make fuzz`.
FUZZTIME ?= 10s

.DEFAULT_GOAL := help
.PHONY: help build build-all vet-all demo test cover test-long check lint vuln race bench fuzz soak test-clients recording \
	deps-clients install uninstall layout bin/dist packages release sign reproduce clean

help: ## list all targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

build: bin/dist ## build broker, brokerd, credproc and stssim into bin/
	@mkdir -p bin
	$(build) -o bin/broker ./cmd/broker
	$(build) -o bin/brokerd ./cmd/brokerd
	$(build) -o bin/credproc ./cmd/credproc
	$(build) -o bin/stssim ./cmd/stssim

# All are built without cgo. Therefore those for darwin lack the keychain, which the keyring library can reach only
# through cgo; to have it, build them on a Mac with CGO_ENABLED=1. Nothing else needs cgo on any system.
targets := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

build-all: ## build broker, brokerd and credproc for Linux, macOS and Windows into bin/OS-ARCH/
	@for target in $(targets); do \
		out=bin/$$(echo $$target | tr / -)/ && mkdir -p $$out && echo $$out && \
		GOOS=$${target%/*} GOARCH=$${target#*/} $(build) -o $$out ./cmd/broker ./cmd/brokerd ./cmd/credproc || exit 1; \
	done

# e2e does not run on other systems.
vet-all: ## vet the code for macOS and Windows
	@for os in darwin windows; do \
		echo GOOS=$$os && GOOS=$$os GOARCH=amd64 CGO_ENABLED=0 $(GO) vet -trimpath $$($(GO) list ./... | grep -v /e2e) || exit 1; \
	done

demo: build ## show Broker with a simulated AWS; KEEP=1 opens a shell at the end
	@KEEP=$(KEEP) demo/demo.sh

# docs/testing.md says which test belongs to which target. Most packages wait more than they compute, so more of them
# run in parallel than there are processors.
test: ## run the quick tests; needs nothing but Go
	$(GO) test -p 6 -parallel 8 -timeout 20m -skip 'Long$$' ./...

# A process writes its counters when it ends, to a directory that is fixed at build time, because Broker passes no
# variable on that would name it. Processes of other users write there too, so it is world-writable. TestHardenedFirst
# checks the order of initialization, which counters change. A statement counts once, however many binaries contain it.
cover: ## show which share of the statements the quick tests run, by package; bin/cover.out is for `go tool cover`
	@mkdir -p bin && dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && mkdir "$$dir/data" && chmod 755 "$$dir" && chmod 777 "$$dir/data" && \
	$(GO) test -p 4 -skip 'Long$$' -coverpkg=./... -coverprofile="$$dir/unit" -ldflags "-X $$($(GO) list ./internal/vault/process).counters=$$dir/data" \
		$$($(GO) list ./... | grep -v /e2e) && \
	E2E_COVER="$$dir/data" $(GO) test -count 1 -skip 'Long$$|^TestHardenedFirst$$' ./e2e && \
	$(GO) tool covdata textfmt -i="$$dir/data" -o="$$dir/programs" && \
	awk '/^mode:/ || /\/counters\.go:/ { next } \
		{ n[$$1] = $$2; if ($$3) run[$$1] = 1 } \
		END { print "mode: set"; for (at in n) print at, n[at], run[at] + 0 }' "$$dir/unit" "$$dir/programs" >bin/cover.out && \
	awk -F '[: ]' 'NR > 1 { sub("/[^/]*$$", "", $$1); all[$$1] += $$3; run[$$1] += $$3 * $$4; all["total"] += $$3; run["total"] += $$3 * $$4 } \
		END { for (p in all) printf "%5.1f%% %5d of %5d  %s\n", 100 * run[p] / all[p], run[p], all[p], p }' bin/cover.out | sort -n

test-long: ## run the tests whose names end in Long: rounds, storms, kills, deadlines, every keyring
	$(GO) test -p 4 -timeout 40m -run 'Long$$' ./...

golangci   = v2.15.0
misspell   = v0.8.0
actionlint = v1.7.12
vulncheck  = v1.9.0

check: ## run what CI runs first: format, vet, lint, tests with the race detector
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'not formatted: run gofmt -w'; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags clients,soak ./...
	$(MAKE) lint
	$(MAKE) race

lint: ## run golangci-lint (.golangci.yml), misspell on every file, and actionlint on the workflows
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(golangci) run ./...
	$(GO) run github.com/golangci/misspell/cmd/misspell@$(misspell) -locale US -i cancelled -error $$(git ls-files)
	$(GO) run github.com/rhysd/actionlint/cmd/actionlint@$(actionlint) -shellcheck= -pyflakes=

vuln: ## look for known vulnerabilities in the code that Broker calls; asks vuln.go.dev
	$(GO) run golang.org/x/vuln/cmd/govulncheck@$(vulncheck) -tags urfave_cli_no_docs ./...

race: ## run the quick tests with the race detector; not e2e, whose processes it cannot watch
	$(GO) test -race -p 4 -skip 'Long$$' $$($(GO) list ./... | grep -v /e2e)

bench: ## run the benchmarks; docs/benchmarks.md explains the figures
	$(GO) test -run '^$$' -bench . -benchtime 2s ./e2e ./internal/daemon ./internal/profiles

fuzz: ## run each fuzz target for FUZZTIME (10s)
	@for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

soak: ## use every delivery under mixed load for SOAK (1h), break something every few seconds, and check that nothing grows
	SOAK=$(SOAK) $(GO) test -tags soak -count 1 -timeout 0 -v -run TestSoak ./e2e

test-clients: ## run the tests with third-party software; see deps-clients
	$(GO) test -tags clients -count 1 -timeout 30m -run 'Client' ./e2e ./internal/...

# The pictures are the only generated files that are committed: the README shows them.
recording: ## play the first minute and write docs/first-minute-*.svg; needs the AWS CLI
	$(GO) test -tags clients -count 1 -run '^TestClientsRecording$$' ./e2e -update

deps-clients: ## install the software for test-clients, on Debian, as root
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		awscli python3-boto3 python3-awscrt python3-venv dbus python3-dbusmock gnome-keyring bash zsh fish less tmux strace oathtool \
		pinentry-tty pinentry-curses zenity kdialog xvfb xdotool \
		rclone s3cmd restic ceph-mon ceph-osd ceph-common radosgw chromium \
		pass gnupg git keyutils libkf5wallet-bin systemd gcc libc6-dev \
		dpkg mandoc groff-base libarchive-tools zbar-tools faketime \
		openssh-client openssh-server podman podman-compose crun uidmap catatonit
	command -v kubectl >/dev/null || \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends kubernetes-client
	command -v docker >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io
	@if command -v node >/dev/null && command -v npm >/dev/null; then \
		mkdir -p '$(BROKER_CLIENTS)' && cd '$(BROKER_CLIENTS)' && \
		install='npm install --prefix . --save-exact --ignore-scripts --no-audit --no-fund --no-progress --loglevel error $(npm_packages)'; \
		$$install || { echo 'npm install failed; trying again' >&2; sleep 5; $$install; }; \
	else \
		echo 'MISSING: node and npm. The tests of Serverless, osls, CDK and the JS SDKs cannot run without them.' >&2; \
	fi
	mkdir -p '$(BROKER_CLIENTS)'
	GOBIN='$(BROKER_CLIENTS)/bin' $(GO) install $(crane)
	cd e2e/testdata/clients/miniogo && $(GO) build -o '$(BROKER_CLIENTS)/miniogo' .
	@command -v moto_server >/dev/null || \
		{ python3 -m venv '$(BROKER_CLIENTS)/moto' && '$(BROKER_CLIENTS)/moto/bin/pip' install -q '$(moto)'; } || \
		echo 'MISSING: moto. The tests against its STS cannot run without it.' >&2

# A program file that its user may not read makes the process not dumpable from its first instruction on: see
# docs/platforms.md. Only root can install such a file for others, because an owner can always read it or change the mode.
# The same holds for packages, whose files belong to root in the end (DESTDIR, as root or with fakeroot).
mode := $(if $(filter 0,$(shell id -u)),711,755)

# What packages and archives lay out otherwise: the programs of another system, a place that a distribution has for a file.
BIN         := bin
SYSTEM      := $(shell $(GO) env GOOS)
ZSH         := share/zsh/site-functions
LICENSEFILE := share/licenses/broker/LICENSE

root = $(DESTDIR)$(PREFIX)

install: build layout ## install programs, manual pages, completion and units below PREFIX (/usr/local)

# The one list of what is installed: packages and archives have what this lays out.
layout:
	install -d '$(root)/bin' '$(root)/share/bash-completion/completions' '$(root)/$(ZSH)' \
		'$(root)/share/fish/vendor_completions.d' '$(root)/$(dir $(LICENSEFILE))'
	install -m $(mode) $(BIN)/broker $(BIN)/brokerd '$(root)/bin'
	install -m 755 $(BIN)/credproc '$(root)/bin'
	ln -sf broker '$(root)/bin/docker-credential-broker'
	install -m 644 internal/cli/completion/broker.bash '$(root)/share/bash-completion/completions/broker'
	install -m 644 internal/cli/completion/broker.zsh '$(root)/$(ZSH)/_broker'
	install -m 644 internal/cli/completion/broker.fish '$(root)/share/fish/vendor_completions.d/broker.fish'
	ln -sf broker '$(root)/share/bash-completion/completions/credproc'
	ln -sf broker.fish '$(root)/share/fish/vendor_completions.d/credproc.fish'
	bin/dist man '$(root)/share/man'
ifeq ($(SYSTEM),linux)
	bin/dist units '$(root)/lib/systemd/user' '$(PREFIX)/bin/brokerd'
endif
	install -m 644 LICENSE '$(root)/$(LICENSEFILE)'

# This keeps keys, profiles and settings. To remove them, first run `broker import --undo`, `broker profiles unlink --all`
# and `broker remove`.
uninstall: ## stop the daemon and remove the files that install put below PREFIX
	@if [ -z '$(DESTDIR)' ] && [ -x '$(PREFIX)/bin/broker' ]; then \
		'$(PREFIX)/bin/broker' service uninstall; '$(PREFIX)/bin/broker' daemon --stop; fi || true
	rm -f '$(root)/bin/broker' '$(root)/bin/brokerd' '$(root)/bin/credproc' '$(root)/bin/docker-credential-broker' \
		'$(root)/share/bash-completion/completions/broker' \
		'$(root)/share/bash-completion/completions/credproc' \
		'$(root)/$(ZSH)/_broker' \
		'$(root)/share/fish/vendor_completions.d/broker.fish' \
		'$(root)/share/fish/vendor_completions.d/credproc.fish' \
		'$(root)/share/man/man1/broker.1' '$(root)/share/man/man1/credproc.1' '$(root)/share/man/man8/brokerd.8' \
		'$(root)/lib/systemd/user/broker.service' '$(root)/lib/systemd/user/broker.socket' \
		'$(root)/$(LICENSEFILE)'
	@rmdir '$(root)/$(dir $(LICENSEFILE))' 2>/dev/null || true

# internal/dist/main.go says what it makes.
bin/dist:
	@mkdir -p bin
	@GOOS= GOARCH= $(build) -o bin/dist ./internal/dist

# The tools of a release come from the Go module proxy, each pinned. v2.48.0 of nfpm needs modules that the proxy lacks.
run       := $(GO) run -trimpath
nfpm      := $(run) github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.1
cyclonedx := $(run) github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
minisign  := $(run) aead.dev/minisign/cmd/minisign@v0.3.0

# Debian has places of its own for completion of zsh and for licenses.
debian := ZSH=share/zsh/vendor-completions LICENSEFILE=share/doc/broker/copyright

packages: bin/dist ## build packages for Debian, Fedora, Alpine and Arch Linux into dist/
	@$(MAKE) --no-print-directory build-all targets='$(filter linux/%,$(targets))'
	@mkdir -p dist && rm -rf bin/stage
	@for target in $(filter linux/%,$(targets)); do for packager in deb rpm apk archlinux; do \
		stage=bin/stage/$$packager-$${target#*/} && \
		$(MAKE) -s layout BIN=bin/$$(echo $$target | tr / -) SYSTEM=linux DESTDIR=$$stage PREFIX=/usr mode=711 \
			$$(test $$packager != deb || echo '$(debian)') && \
		bin/dist nfpm $$stage $${target#*/} >$$stage.json && \
		$(nfpm) package -f $$stage.json -p $$packager -t dist/ || exit 1; \
	done; done

# The archives of Linux and macOS are unpacked into /usr/local; those of Windows, anywhere.
release: bin/dist ## build all that is published for VERSION (v1.2.3) into dist/; MINISIGN_KEY=FILE signs it
	@bin/dist check '$(VERSION)'
	rm -rf dist
	@$(MAKE) --no-print-directory build-all targets='$(filter-out linux/%,$(targets))'
	@$(MAKE) --no-print-directory packages
	@for target in $$(echo $(targets) | tr / -); do \
		stage=bin/stage/$$target && name=dist/broker-$(VERSION:v%=%)-$$target && echo $$name && \
		case $$target in \
		windows-*) install -d $$stage && install -m 644 LICENSE $$stage && install bin/$$target/*.exe $$stage && \
			bin/dist archive $$stage $$name.zip;; \
		*) $(MAKE) -s layout BIN=bin/$$target SYSTEM=$${target%-*} DESTDIR=$$stage PREFIX=/usr/local mode=711 && \
			bin/dist archive $$stage/usr/local $$name.tar.gz;; \
		esac || exit 1; \
	done
	$(cyclonedx) mod -json -licenses -std -short-purls -noserial -notimestamp -output dist/broker-$(VERSION:v%=%).cdx.json
	bin/dist formula $$($(GO) list -m) >dist/broker.rb
	bin/dist sums dist
	$(if $(MINISIGN_KEY),@$(MAKE) --no-print-directory sign)

sign: ## sign dist/SHA256SUMS of VERSION with MINISIGN_KEY=FILE
	$(minisign) -S -s '$(MINISIGN_KEY)' -t 'Broker $(VERSION)' -m dist/SHA256SUMS

# The version has to have its section in CHANGELOG.md.
reproduce: ## build the release of HEAD twice, in different directories, and compare the bytes
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	version=v$$(sed -n 's/^## \([0-9][0-9.]*\)$$/\1/p' CHANGELOG.md | head -n 1) && \
	for clone in a another/place; do \
		git clone -q . "$$dir/$$clone" && git -C "$$dir/$$clone" tag -f $$version >/dev/null && \
		$(MAKE) --no-print-directory -C "$$dir/$$clone" release VERSION=$$version || exit 1; \
	done && \
	diff -r "$$dir/a/dist" "$$dir/another/place/dist" && \
	test $$(ls "$$dir/a/dist" | wc -l) -ge 17 && cat "$$dir/a/dist/SHA256SUMS" && echo 'both builds are the same, byte for byte'

clean: ## remove bin/ and dist/
	rm -rf bin dist
