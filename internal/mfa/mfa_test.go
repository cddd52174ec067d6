//go:build unix

package mfa

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

const seedText = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" // "12345678901234567890", of RFC 6238

func TestParseSeed(t *testing.T) {
	long := strings.Repeat("A", 64)
	for text, want := range map[string]string{
		seedText: "",
		"  gezd gnbv gy3t-qojq gezd gnbv gy3t qojq ": "",
		long: "", long + "======": "",
		"GEZDGNBVGY3TQOJQGE": "", "GEZDGNBVGY3TQOJQGE======": "",
		"otpauth://totp/Amazon%20Web%20Services:paul@111122223333?secret=" + seedText + "&issuer=Amazon%20Web%20Services": "",
		"OTPAUTH://TOTP/x?secret=" + strings.ToLower(seedText):                                                            "",
		"otpauth://totp/x?secret=" + seedText + "&digits=6&period=30&algorithm=sha-1":                                     "",
		"otpauth://totp/x?secret=" + seedText + "&algorithm=sha-512":                                                      "not SHA1",
		"otpauth://totp/x?secret=" + seedText + "&algorithm=SHA256":                                                       "not SHA1",
		"otpauth://totp/x?secret=" + seedText + "&algorithm=":                                                             "not SHA1",

		"":                                   "empty",
		"123456":                             "not base32",
		"JBSWY3DP":                           "too short",
		"GEZDGNBVGY3TQOJ1":                   "not base32",
		"GEZDGNBV\nGY3TQOJQGEZDGNBVGY3TQOJQ": "more than one line",
		strings.Repeat("A", 400):             "too long",
		strings.Repeat("A", 5000):            "longer than",
		"otpauth://hotp/x?secret=" + seedText + "&counter=1":              "HOTP",
		"otpauth://steam/x?secret=" + seedText:                            "otpauth://totp/",
		"otpauth:totp?secret=" + seedText:                                 "otpauth://totp/",
		"otpauth-migration://offline?data=" + seedText:                    "several accounts",
		"https://example.org/?secret=" + seedText:                         "neither base32 nor",
		"otpauth://totp/x":                                                "no secret",
		"otpauth://totp/x?secret=":                                        "no secret",
		"otpauth://totp/x?secret=" + seedText + "&digits=8":               "6 digits",
		"otpauth://totp/x?secret=" + seedText + "&digits=six":             "6 digits",
		"otpauth://totp/x?secret=" + seedText + "&digits=":                "6 digits",
		"otpauth://totp/x?secret=" + seedText + "&period=60":              "30 seconds",
		"otpauth://totp/x?secret=" + seedText + "&period=x":               "30 seconds",
		"otpauth://totp/x?secret=" + seedText + "&algorithm=MD5":          "algorithm",
		"otpauth://totp/x?secret=" + seedText + "&algorithm=SHA3":         "algorithm",
		"otpauth://totp/x?secret=" + seedText + "&encoder=steam":          "encoder",
		"otpauth://totp/x?secret=" + seedText + "&secret=JBSWY3DPEHPK3PX": "twice",
		"otpauth://totp/x?secret=" + seedText + ";digits=8":               "cannot be read",
		"otpauth://totp/%zz?secret=" + seedText:                           "not a valid otpauth URI",
		"otpauth://to\x00tp/x?secret=" + seedText:                         "not a valid otpauth URI",
	} {
		seed, err := ParseSeed(text)
		if want == "" {
			if err != nil || seed.IsZero() || seed.Text().Reveal() != strings.TrimSpace(text) {
				t.Errorf("ParseSeed(%q): %v", text, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseSeed(%q): %v, want %q", text, err, want)
			continue
		}
		if len(text) > 6 && strings.Contains(strings.ToUpper(err.Error()), "GEZD") {
			t.Errorf("the error repeats the seed: %v", err)
		}
	}
}

// TestCode uses the test vectors of RFC 6238, appendix B, cut to six digits.
func TestCode(t *testing.T) {
	for _, v := range []struct {
		unix int64
		code string
	}{
		{59, "287082"}, {1111111109, "081804"}, {20000000000, "353130"},
	} {
		seed, err := ParseSeed("otpauth://totp/x?secret=" + seedText + "&algorithm=SHA1")
		if err != nil {
			t.Fatal(err)
		}
		code, step := seed.Code(time.Unix(v.unix, 0))
		if code.Reveal() != v.code || step != v.unix/30 {
			t.Errorf("%d: got %s, step %d", v.unix, code.Reveal(), step)
		}
	}
	if code, _ := (Seed{}).Code(time.Now()); !code.IsZero() {
		t.Error("the zero seed makes a code")
	}
	seed, _ := ParseSeed(seedText)
	if code, step := seed.Code(time.Unix(-1, 0)); !code.IsZero() || step != -1 {
		t.Errorf("before 1970: step %d", step)
	}
}

func TestSeedIsNotPrinted(t *testing.T) {
	seed, _ := ParseSeed(seedText)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if s := fmt.Sprintf(verb, seed); strings.Contains(strings.ToUpper(s), "GEZD") || strings.Contains(s, "47455a44") {
			t.Errorf("%s prints %s", verb, s)
		}
	}
}

func TestParseCode(t *testing.T) {
	for text, want := range map[string]string{
		"123456": "123456", "123 456": "123456", " 000 000\n": "000000", "1 2 3 4 5 6\r\n": "123456", "123\u00a0456": "123456",
		"": "", "12345": "", "1234567": "", "12345a": "", "-12345": "", "123-456": "", "１２３４５６": "", "12345\x00": "",
		strings.Repeat("1", 1<<16): "", strings.Repeat(" ", 1<<16) + "123456": "123456",
	} {
		code, err := ParseCode(text)
		if code.Reveal() != want || (err == nil) != (want != "") {
			t.Errorf("ParseCode(%.20q) = %s, %v", text, code.Reveal(), err)
		}
		if err != nil && (!fault.Is(err, fault.Usage) || strings.Contains(err.Error(), "12345")) {
			t.Errorf("ParseCode(%.20q): %v", text, err)
		}
	}
}

func FuzzParseSeed(f *testing.F) {
	for _, s := range []string{seedText, "otpauth://totp/x?secret=" + seedText + "&digits=6", "otpauth://hotp/x", "a b-c=", "otpauth://totp/?secret=%00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		seed, err := ParseSeed(s)
		if err != nil {
			// The error is one of a few fixed texts, so it cannot contain any of the input.
			if quoted := strings.Count(err.Error(), `"`); len(err.Error()) > 120 || quoted != 0 && quoted != 2 {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		code, _ := seed.Code(time.Unix(1700000000, 0))
		if _, err := ParseCode(code.Reveal()); err != nil {
			t.Errorf("%q makes %q", s, code.Reveal())
		}
		again, err := ParseSeed(seed.Text().Reveal())
		if err != nil {
			t.Fatalf("the stored form does not read back: %v", err)
		}
		if second, _ := again.Code(time.Unix(1700000000, 0)); second.Reveal() != code.Reveal() {
			t.Errorf("%q: the stored form makes another code", s)
		}
	})
}

func FuzzParseCode(f *testing.F) {
	for _, s := range []string{"123456", "123 456", "x", "\u00a0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		code, err := ParseCode(s)
		if err != nil {
			var u *fault.Error
			if !errors.As(err, &u) || u.Kind != fault.Usage || !code.IsZero() {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		digits := strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return r
			}
			return -1
		}, s)
		if len(code.Reveal()) != 6 || code.Reveal() != digits {
			t.Errorf("%q gives %q", s, code.Reveal())
		}
	})
}

func FuzzDecodeLedger(f *testing.F) {
	f.Add([]byte(`{"version":1,"salt":"AAAAAAAAAAAAAAAAAAAAAA==","claims":[{"hash":"x","at":5}]}`))
	f.Add([]byte(`{"version":1,"salt":"AAAAAAAAAAAAAAAAAAAAAA==","claims":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		book, err := decodeLedger(data)
		if err == nil && (book.Claims == nil || len(book.Salt) != saltBytes) {
			t.Errorf("%q was accepted", data)
		}
		if err == nil {
			_ = book.hash("serial", secret.New("123456"))
		}
	})
}
