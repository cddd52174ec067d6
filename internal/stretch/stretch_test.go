package stretch

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// TestKey checks that the parameters are those that SECURITY.md promises, and that every version derives the same
// key: a different key would lock the owner out.
func TestKey(t *testing.T) {
	p := New()
	if err := p.Check(); err != nil || p.MemoryKiB < 64<<10 || p.Passes < 3 || p.Lanes != 4 || len(p.Salt) < 16 {
		t.Errorf("%+v, %v", p, err)
	}
	if bytes.Equal(p.Salt, New().Salt) {
		t.Error("New returned the same salt twice")
	}
	golden := Params{Salt: []byte("somesaltsomesalt"), Passes: 3, MemoryKiB: 65536, Lanes: 4}.Key("open sesame")
	if hex.EncodeToString(golden) != "f79188d93ea10a374d0a60c3ec8546871f57527a0b63064a23dda80a03b7affd" {
		t.Errorf("got %x", golden)
	}
}

func TestCheckBounds(t *testing.T) {
	good := Params{Salt: make([]byte, 16), Passes: 1, MemoryKiB: 8, Lanes: 1}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for what, spoil := range map[string]func(*Params){
		"no salt":     func(p *Params) { p.Salt = nil },
		"short salt":  func(p *Params) { p.Salt = p.Salt[:7] },
		"long salt":   func(p *Params) { p.Salt = make([]byte, 65) },
		"no pass":     func(p *Params) { p.Passes = 0 },
		"passes":      func(p *Params) { p.Passes = maxPasses + 1 },
		"no memory":   func(p *Params) { p.MemoryKiB = 0 },
		"gigabytes":   func(p *Params) { p.MemoryKiB = 1 << 20 },
		"most memory": func(p *Params) { p.MemoryKiB = 1<<32 - 1 },
		"no lane":     func(p *Params) { p.Lanes = 0 },
		"lanes":       func(p *Params) { p.Lanes, p.MemoryKiB = 255, 4096 },
	} {
		p := good
		p.Salt = bytes.Clone(good.Salt)
		if spoil(&p); p.Check() == nil {
			t.Errorf("%s: Check accepts %+v", what, p)
		}
	}
}

func TestWeak(t *testing.T) {
	for _, p := range []string{
		"", "a", "hunter2", "äöüäöüäöüäö", "12345678901", "aaaaaaaaaaaaaaaaaaaa", "abababababababab", "passwordpassword",
		"Password123456", "Passw0rd!2024", "qwertyqwerty1", "31.12.1999-2000", "123456789012", "letmein-letmein",
		"correcthorsebatterystaple", "Welcome2024!!", "changeme changeme",
	} {
		if Weak(p) == "" {
			t.Errorf("Weak(%q) is empty", p)
		}
	}
	for _, p := range []string{
		"nearby-otter-lamp-vast", "Xk3#9vLq!2Zr", "the-passphrase-of-the-tests-7261", "ein Hase mit fünf Löffeln",
		"一二三四五六七八九十百千", "2910 4471 0032 8847 1196", strings.Repeat("x7Kq", 3) + "m2Rw",
	} {
		if why := Weak(p); why != "" {
			t.Errorf("Weak(%q) = %q, want \"\"", p, why)
		}
	}
}
