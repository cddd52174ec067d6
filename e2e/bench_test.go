package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// yardstick is a Go program that does nothing, built like Broker's programs.
const yardstick = "package main\n\nfunc main() {}\n"

// scale runs a program and prints its peak memory. It is a small program itself, because a process inherits the
// peak of its parent, and this test program is larger than any of Broker's.
const scale = `package main

import (
	"os"
	"syscall"
)

func main() {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	p, err := os.StartProcess(os.Args[1], os.Args[1:], &os.ProcAttr{Files: []*os.File{null, null, os.Stderr}})
	if err != nil {
		panic(err)
	}
	state, err := p.Wait()
	if err != nil || !state.Success() {
		panic("it failed")
	}
	println(state.SysUsage().(*syscall.Rusage).Maxrss)
}
`

// compile builds one file as the Makefile builds Broker's programs.
func compile(b *testing.B, h *house, name, source string) string {
	b.Helper()
	dir := filepath.Join(h.dir, name)
	must(b, os.MkdirAll(dir, 0o755))
	must(b, os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600))
	program := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, filepath.Join(dir, "main.go"))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return program
}

// memory returns the largest resident set of a program over several runs, in MiB.
func (h *house) memory(b *testing.B, scale, program string, args ...string) float64 {
	b.Helper()
	most := 0
	for range 20 {
		r := h.run(scale, append([]string{program}, args...)...)
		n, err := strconv.Atoi(strings.TrimSpace(r.stderr))
		if err != nil {
			b.Fatalf("run the scale: %v", r)
		}
		most = max(most, n)
	}
	return float64(most) / (1 << 10)
}

// once runs a program to its end.
func (h *house) once(b *testing.B, program string, args ...string) time.Duration {
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Dir = h.env, h.dir
	began := time.Now()
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s: %v", program, err)
	}
	return time.Since(began)
}

// against runs one of Broker's programs and the yardstick in turns, and reports the ratio of their times. So a
// noisy machine affects both equally.
func against(b *testing.B, name string, args ...string) {
	h := demo(b)
	h.credentials(b, "product_prod_paul")
	empty, program := compile(b, h, "empty", yardstick), filepath.Join(h.bin, name)
	h.once(b, empty)
	h.once(b, program, args...)
	var ours, theirs time.Duration
	b.ResetTimer()
	for b.Loop() {
		ours += h.once(b, program, args...)
		b.StopTimer()
		theirs += h.once(b, empty)
		b.StartTimer()
	}
	b.StopTimer()
	info, err := os.Stat(program)
	must(b, err)
	b.ReportMetric(float64(ours)/float64(theirs), "x-empty")
	b.ReportMetric(float64(theirs.Microseconds())/float64(b.N), "empty-µs/op")
	b.ReportMetric(float64(info.Size())/1e6, "binary-MB")
	weigh := compile(b, h, "scale", scale)
	b.ReportMetric(h.memory(b, weigh, program, args...), "max-RSS-MiB")
	b.ReportMetric(h.memory(b, weigh, empty), "empty-max-RSS-MiB")
}

// BenchmarkCredproc measures the whole process with a warm daemon.
func BenchmarkCredproc(b *testing.B) { against(b, "credproc", "product_prod_paul") }

// BenchmarkStatus measures the larger program, for comparison.
func BenchmarkStatus(b *testing.B) { against(b, "broker", "status") }

// BenchmarkExec measures the wait of a person until the command runs, and the command.
func BenchmarkExec(b *testing.B) { against(b, "broker", "exec", "product_prod_paul", "--", "true") }

// BenchmarkPrompt measures the shell prompt's wait if it has to ask the daemon.
func BenchmarkPrompt(b *testing.B) { against(b, "credproc", "--prompt") }

// BenchmarkVersion measures broker without any work, for comparison.
func BenchmarkVersion(b *testing.B) { against(b, "broker", "version") }
