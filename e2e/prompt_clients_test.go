//go:build clients

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tmux is a terminal with a person: a separate tmux server with a shell.
type tmux struct {
	t      *testing.T
	socket string
	h      *house
	scenes int
}

func (h *house) tmux(t *testing.T) *tmux {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		missing(t, "tmux")
	}
	m := &tmux{t: t, socket: filepath.Join(h.dir, "tmux"), h: h}
	m.run("-f", "/dev/null", "new-session", "-d", "-x", "150", "-y", "40", "bash --norc --noprofile")
	t.Cleanup(func() { m.run("kill-server") })
	m.types("PS1='ready> '")
	m.waits("ready> ")
	return m
}

func (m *tmux) run(args ...string) string {
	m.t.Helper()
	r := m.h.run("tmux", append([]string{"-S", m.socket}, args...)...)
	if r.code != 0 {
		m.t.Fatalf("tmux %v: %v", args, r)
	}
	return r.stdout
}

func (m *tmux) types(line string) { m.run("send-keys", "-l", line); m.run("send-keys", "Enter") }

func (m *tmux) screen() string { return m.run("capture-pane", "-p", "-J") }

// waits waits until the screen shows a text. Broker may break a prompt at a blank, so any white space stands for one.
func (m *tmux) waits(text string) string {
	m.t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		screen := m.screen()
		if strings.Contains(screen, text) || strings.Contains(strings.Join(strings.Fields(screen), " "), text) {
			return screen
		}
		if time.Now().After(limit) {
			m.t.Fatalf("%q does not appear; the screen is\n%s", text, screen)
		}
	}
}

// clean clears the screen for the next scene. The text that it then prints differs from the text that was typed,
// so waits does not match too early.
func (m *tmux) clean() {
	m.t.Helper()
	m.scenes++
	m.types(fmt.Sprintf("clear; printf '\\033[3Jscene %%d\\n' $((%d+1))", m.scenes-1))
	m.waits(fmt.Sprintf("scene %d\n", m.scenes))
	m.waits("ready> ")
}

// TestClientsPrompt runs the AWS CLI in a terminal, where its helper prompts: with a wrong and a right code, with
// Ctrl-C, from the background, before a pager that also waits for the keyboard, from one of two panes, and under
// cron, where there is no prompt.
func TestClientsPrompt(t *testing.T) {
	tools := installed("aws")
	if len(tools) == 0 {
		missing(t, "the AWS CLI")
	}
	for _, tool := range tools {
		t.Run(strings.Trim(strings.ReplaceAll(tool, "/", "_"), "_"), func(t *testing.T) {
			h := seedless(t, "[profile prod]\nrole_arn = "+prodRole+"\nsource_profile = security\n")
			must(t, h.write(h.awsConfig(), fmt.Sprintf("[profile prod]\nregion = eu-west-1\ncredential_process = %q prod\n", filepath.Join(h.bin, "credproc"))))
			m := h.tmux(t)
			ask := tool + " sts get-caller-identity --profile prod --output text --endpoint-url " + h.sim.url
			const who, question = "assumed-role/allow-admin-from-security-account", "MFA code for security"

			m.types(ask)
			if screen := m.waits(question); !strings.Contains(screen, serial) || !strings.Contains(screen, "asked by aws:") {
				t.Errorf("the prompt does not name the device and the program that asks:\n%s", screen)
			}
			m.types("000000")
			m.waits("AWS rejected the MFA code")
			m.types(h.code(t, serial))
			m.waits(who)

			h.ok(t, "broker", "logout")
			must(t, h.freshCodes())
			m.clean()
			m.types(ask)
			m.waits(question)
			m.run("send-keys", "C-c")
			m.types("echo over: $((40+1))")
			m.waits("over: 41")
			if n := strings.Count(m.screen(), question); n != 1 {
				t.Errorf("%d prompts, want 1:\n%s", n, m.screen())
			}

			// Nothing remembers the cancellation: the next command prompts at once.
			m.clean()
			m.types(ask)
			m.waits(question)
			m.run("send-keys", "C-c")
			m.types("echo over: $((41+1))")
			m.waits("over: 42")

			m.clean()
			m.types("(" + ask + "; echo ended: $((40+2))) &")
			if screen := m.waits("ended: 42"); strings.Contains(screen, question) || !strings.Contains(screen, "broker login security") {
				t.Errorf("a background job:\n%s", screen)
			}

			// less has set its own terminal mode before the prompt appears, and waits for keys.
			must(t, h.freshCodes())
			m.clean()
			told := len(h.codes(t))
			m.types("{ sleep 2; " + ask + "; } | less")
			m.waits(question)
			m.types(h.code(t, serial))
			m.waits(who)
			m.run("send-keys", "q")
			m.types("echo read: $((42+1))")
			m.waits("read: 43")
			if n := len(h.codes(t)) - told; n != 1 {
				t.Errorf("before a pager: %d codes were sent, want 1", n)
			}

			// Two panes at once.
			h.ok(t, "broker", "logout")
			must(t, h.freshCodes())
			m.clean()
			told = len(h.codes(t))
			m.types(ask)
			m.waits(question)
			m.run("split-window", "-h", "bash --norc --noprofile")
			m.types("PS1='second> '")
			m.waits("second> ")
			m.types(ask)
			first := strings.TrimPrefix(strings.TrimSpace(m.run("display-message", "-p", "-t", ":.0", "#{pane_tty}")), "/dev/")
			elsewhere := "waiting for the code of security, sent to " + h.sim.url + ", asked on " + first + " by aws, press Enter to answer here"
			if screen := m.waits(elsewhere); strings.Contains(screen, question) || strings.Contains(screen, who) {
				t.Errorf("the second pane did not wait for the first one's answer:\n%s", screen)
			}
			// Enter takes over the prompt, and the first pane says so.
			m.run("send-keys", "Enter")
			m.waits(question)
			m.run("select-pane", "-t", ":.0")
			m.waits(offered)
			m.run("select-pane", "-t", ":.1")
			m.types(h.code(t, serial))
			m.waits(who)
			m.run("select-pane", "-t", ":.0")
			m.waits(who)
			if n := len(h.codes(t)) - told; n != 1 {
				t.Errorf("two panes: %d codes were sent, want 1", n)
			}

			// A script under cron has no terminal.
			h.ok(t, "broker", "logout")
			script := filepath.Join(h.dir, "nightly")
			must(t, os.WriteFile(script, []byte("#!/bin/sh\n"+ask+"\n"), 0o755))
			if r := h.run("setsid", "--wait", script); r.code == 0 || !strings.Contains(r.stderr, "broker login security") {
				t.Errorf("under cron: %v", r)
			}
		})
	}
}

// TestClientsMotoTyped runs all steps against another project's STS, with a code that a person types.
func TestClientsMotoTyped(t *testing.T) {
	url := startMoto(t)
	h := newHouse(t)
	must(t, h.write(h.registry(), "[settings]\nkeyring_backend = file\nsts_endpoint = "+url+"\n\n[profile one]\nrole_arn = "+devRole+
		"\nsource_profile = security\n[profile two]\nrole_arn = "+prodRole+"\nsource_profile = one\n"))
	storeKey(t, h, keyID, keySecret)
	h.ok(t, "broker", "mfa", "remove", "security", "--yes")
	h.ok(t, "broker", "mfa", "set", "security", "--serial", serial)
	s := h.sit(t, "credproc", "two")
	s.waits("MFA code for security")
	s.types("123456")
	if r := s.ends(); r.code != 0 || !strings.Contains(r.stdout, `"SessionToken"`) {
		t.Error(r)
	}
	s.asked(1)
}
