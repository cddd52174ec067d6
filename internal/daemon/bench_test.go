//go:build linux

package daemon

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"broker/internal/audit"
	"broker/internal/profiles"
	"broker/internal/wire"
)

// echo is the baseline for the daemon: a Go server on a unix socket that reads a line, checks nothing, and writes
// a line as long as a real answer.
func echo(b *testing.B, answer []byte) (path string) {
	b.Helper()
	path = filepath.Join(b.TempDir(), "echo")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReaderSize(conn, 1024)
				for {
					if _, err := r.ReadSlice('\n'); err != nil {
						return
					}
					if _, err := conn.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return path
}

const clients = 64

// load lets 64 clients make n requests in total, and returns how long that took.
func load(b *testing.B, path string, request, answer []byte, n int, keep bool) time.Duration {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	start := time.Now()
	for range clients {
		wg.Go(func() {
			var conn net.Conn
			reader := bufio.NewReaderSize(nil, 4096)
			for left.Add(-1) >= 0 {
				if conn == nil {
					var err error
					if conn, err = net.Dial("unix", path); err != nil {
						b.Error(err)
						return
					}
					reader.Reset(conn)
				}
				if _, err := conn.Write(request); err != nil {
					b.Error(err)
					return
				}
				got, err := reader.ReadSlice('\n')
				if err != nil || len(got) != len(answer) {
					b.Errorf("got %q, %v", got, err)
					return
				}
				if !keep {
					_ = conn.Close()
					conn = nil
				}
			}
			if conn != nil {
				_ = conn.Close()
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

// many is a daemon with the registry and n additional roles in an AWS config.
func many(b *testing.B, dir string, n int) (h *house) {
	b.Helper()
	h = build(b, dir, registry)
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "[profile p%d]\nrole_arn = arn:aws:iam::444455556666:role/p%d\nsource_profile = security\nregion = eu-west-1\n\n", i, i)
	}
	// The default AWS files, whose roles need no confirmation.
	h.Files = profiles.Files{AWS: dir, Registry: h.Files.Registry,
		Config: filepath.Join(dir, "config"), Credentials: filepath.Join(dir, "credentials")}
	if err := os.WriteFile(h.Files.Config, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	log := audit.New(filepath.Join(dir, "audit.log"), func(err error) { b.Error(err) })
	b.Cleanup(func() { _ = log.Close() })
	h.Audit = log
	return h.run(b)
}

// processorTime returns how long this process has run on a processor.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWarm measures requests for a cached session from 64 clients, with the real audit log. x-echo is the
// throughput relative to the echo server. The two take turns, so that other load of the machine affects both. cpu-ns/op
// is the processor time of daemon and clients, which other load affects least.
func BenchmarkWarm(b *testing.B) {
	for _, n := range []int{10, 10000} {
		for how, keep := range map[string]bool{"dial": false, "keep": true} {
			b.Run(fmt.Sprintf("%d/%s", n, how), func(b *testing.B) {
				h := many(b, b.TempDir(), n)
				request, err := wire.EncodeRequest(&wire.Request{Verb: wire.Get, Profile: fmt.Sprintf("p%d", n-1),
					AWSConfig: h.Files.Config, AWSCredentials: h.Files.Credentials, Client: "bench"})
				if err != nil {
					b.Fatal(err)
				}
				l := connect(b, h.path)
				if _, err := l.Write(request); err != nil {
					b.Fatal(err)
				}
				answer, err := wire.ReadLine(l.r)
				if err != nil || !strings.Contains(string(answer), "SecretAccessKey") {
					b.Fatalf("got %q, %v", answer, err)
				}
				answer = append(answer, '\n')
				bare := echo(b, answer)

				var ours, theirs, busy time.Duration
				done := 0
				b.ResetTimer()
				for left := b.N; left > 0; {
					turn := min(left, 2000)
					left -= turn
					before := processorTime(b)
					ours += load(b, h.path, request, answer, turn, keep)
					busy += processorTime(b) - before
					b.StopTimer()
					theirs += load(b, bare, request, answer, turn, keep)
					b.StartTimer()
					done += turn
				}
				b.ReportMetric(theirs.Seconds()/ours.Seconds(), "x-echo")
				b.ReportMetric(float64(theirs.Nanoseconds())/float64(done), "echo-ns/op")
				b.ReportMetric(float64(busy.Nanoseconds())/float64(done), "cpu-ns/op")
			})
		}
	}
}

// BenchmarkIdle measures one client at a time, with 2,000 idle connections open. p99-ms is the slowest of each
// hundred requests; x-alone is its ratio to the time without the idle connections. The two take turns.
func BenchmarkIdle(b *testing.B) {
	h := many(b, b.TempDir(), 10)
	request, err := wire.EncodeRequest(
		&wire.Request{
			Verb:           wire.Get,
			Profile:        "p0",
			AWSConfig:      h.Files.Config,
			AWSCredentials: h.Files.Credentials,
			Client:         "bench",
		},
	)
	if err != nil {
		b.Fatal(err)
	}
	once := func() time.Duration {
		start := time.Now()
		l := connect(b, h.path)
		defer func() { _ = l.Close() }()
		if _, err := l.Write(request); err != nil {
			b.Fatal(err)
		}
		if answer, err := wire.ReadLine(l.r); err != nil || !strings.Contains(string(answer), "SecretAccessKey") {
			b.Fatalf("got %q, %v", answer, err)
		}
		return time.Since(start)
	}
	once()
	const crowd, turn = 2000, 500
	idle := make([]net.Conn, 0, crowd)
	leave := func() {
		for _, conn := range idle {
			_ = conn.Close()
		}
		idle = idle[:0]
	}
	defer leave()
	var alone, beside []time.Duration
	b.ResetTimer()
	for left := b.N; left > 0; left -= turn {
		n := min(left, turn)
		b.StopTimer()
		for range n {
			alone = append(alone, once())
		}
		for range crowd {
			conn, err := net.Dial("unix", h.path)
			if err != nil {
				b.Fatal(err)
			}
			idle = append(idle, conn)
		}
		b.StartTimer()
		for range n {
			beside = append(beside, once())
		}
		b.StopTimer()
		leave()
		b.StartTimer()
	}
	p99 := func(of []time.Duration) float64 {
		slices.Sort(of)
		return of[(len(of)-1)*99/100].Seconds()
	}
	b.ReportMetric(1000*p99(beside), "p99-ms")
	b.ReportMetric(p99(beside)/p99(alone), "x-alone")
}

// BenchmarkFlood measures one request at a time to an endpoint while another user connects to it. The name says
// how often per second, or "as fast as two clients can". p99-ms is the slowest of each hundred requests; x-alone
// is its ratio to the time before and after the flood.
func BenchmarkFlood(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("SKIPPED, NOT PROVEN: needs root to become another user")
	}
	self := filepath.Join(shared(b), "self")
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(self, program, 0o755); err != nil {
		b.Fatal(err)
	}
	h := many(b, b.TempDir(), 10)
	e := h.lend(b, wire.Request{Profile: "p0", AWSConfig: h.Files.Config, AWSCredentials: h.Files.Credentials})
	host, _ := home(e)
	once := func() time.Duration {
		start := time.Now()
		if status, body := h.call(b, e); status != 200 {
			b.Fatalf("%d %s", status, body)
		}
		return time.Since(start)
	}
	p99 := func(of []time.Duration) float64 {
		slices.Sort(of)
		return of[(len(of)-1)*99/100].Seconds()
	}
	for _, rate := range []int{100, 1000, 0} {
		name := strconv.Itoa(rate)
		if rate == 0 {
			name = "max"
		}
		b.Run(name, func(b *testing.B) {
			var alone, beside []time.Duration
			for range 500 {
				alone = append(alone, once())
			}
			flood := exec.Command(self, "play-flood", host, strconv.Itoa(rate))
			flood.Dir = "/"
			flood.SysProcAttr = &syscall.SysProcAttr{
				Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL,
			}
			out, err := flood.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := flood.Start(); err != nil {
				b.Fatal(err)
			}
			// It answers after ten seconds, when its first connections have left their traces.
			line := make([]byte, 100)
			n, err := out.Read(line)
			if err != nil {
				b.Fatal(err)
			}
			reached, err := strconv.ParseFloat(strings.TrimSpace(string(line[:n])), 64)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				beside = append(beside, once())
			}
			_ = flood.Process.Kill()
			_ = flood.Wait()
			for range 500 {
				alone = append(alone, once())
			}
			b.ReportMetric(reached, "connections/s")
			b.ReportMetric(1000*p99(beside), "p99-ms")
			b.ReportMetric(p99(beside)/p99(alone), "x-alone")
		})
	}
}

// shared is a directory that other users can read.
func shared(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("", "broker-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	return dir
}

// playFlood connects rate times a second until it is killed; with rate 0, as fast as it can. After ten seconds it
// prints how many times per second it connected.
func playFlood(host string, rate int) {
	var done atomic.Int64
	connect := func() {
		conn, err := net.Dial("tcp", host)
		done.Add(1) // also a connection that was reset at once
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			_, _ = conn.Read(make([]byte, 1)) // until it is closed
			_ = conn.Close()
		}
	}
	if rate == 0 {
		for range 2 {
			go func() {
				for {
					connect()
				}
			}()
		}
	} else {
		go func() {
			const turns = 100 // per second
			for range time.Tick(time.Second / turns) {
				for range rate / turns {
					go connect()
				}
			}
		}()
	}
	const warm = 10
	time.Sleep(warm * time.Second)
	fmt.Println(float64(done.Load()) / warm)
	select {}
}
