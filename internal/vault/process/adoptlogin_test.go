package process

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/vault"
)

// The names of the files of AWS's tools for my-sso, https://my.awsapps.com/start and testARN, as the AWS CLI made them.
const (
	cacheOfSession = "0ad374308c5a4e22f723adf10145eafad7c4031c.json"
	cacheOfURL     = "40840c65697c043e2a71754cccb2ab4de3acc1c1.json"
	cacheOfARN     = "a9165981f29c"
)

func sha1Name(text string) string { return fmt.Sprintf("%x.json", sha1.Sum([]byte(text))) }

// foreignFile writes a file of `aws sso login`, and returns its path.
func (w *pageWorld) foreignFile(name, text string) string {
	w.Helper()
	dir := filepath.Join(w.home, ".aws", "sso", "cache")
	must(w.T, os.MkdirAll(dir, 0o755))
	path := filepath.Join(dir, name)
	must(w.T, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// foreignToken returns the text of such a file, whose access token ends in left. AWS knows its client and its refresh
// token.
func (w *pageWorld) foreignToken(left time.Duration, layout string) string {
	w.aws.clients["client-theirs"], w.aws.refresh = true, "REFRESHTOKEN-theirs"
	return fmt.Sprintf(`{"startUrl": "https://my.awsapps.com/start/#", "region": "eu-west-1",
		"accessToken": "ACCESSTOKEN-theirs", "expiresAt": %q, "clientId": "client-theirs",
		"clientSecret": "CLIENTSECRET-client-theirs", "registrationExpiresAt": %q,
		"refreshToken": "REFRESHTOKEN-theirs", "scopes": ["x"], "new": 1}`,
		time.Now().Add(left).UTC().Format(layout), time.Now().Add(time.Hour).UTC().Format(layout))
}

// TestAdoptPortal: the login of `aws sso login` is used, is refreshed by Broker from then on, and its file stays as it
// is. Tools write seconds or milliseconds.
func TestAdoptPortal(t *testing.T) {
	for _, layout := range []string{"2006-01-02T15:04:05Z", "2006-01-02T15:04:05.000Z"} {
		w := newPageWorld(t, profiles.Portal)
		path := w.foreignFile(cacheOfSession, w.foreignToken(50*time.Minute, layout))
		for _, adopts := range []bool{true, false} {
			e := w.errand(vault.OpOpen)
			if _, err := w.do(e); err != nil || e.adopted != adopts {
				t.Errorf("adopted %v, %v; want %v", e.adopted, err, adopts)
			}
		}
		before, _ := os.ReadFile(path)
		info, _ := os.Stat(path)
		w.wantToken("ACCESSTOKEN-theirs")
		if told := w.told.String(); strings.Count(told, "\n") != 1 || !strings.Contains(told,
			"uses the login of aws sso login; that tool asks for a login again at "+clock(time.Now().Add(50 * time.Minute))[:10]) {
			t.Errorf("told %q", told)
		}
		w.age(10 * time.Minute)
		w.wantToken("ACCESSTOKEN-1")
		after, _ := os.ReadFile(path)
		if now, _ := os.Stat(path); !bytes.Equal(before, after) || !now.ModTime().Equal(info.ModTime()) {
			t.Error("the file was written")
		}
		// What was adopted is not adopted again: its refresh token was replaced.
		l := w.read()
		w.write(l.without())
		w.wantLogin()
		w.foreignFile(cacheOfSession, strings.ReplaceAll(w.foreignToken(50*time.Minute, layout), "theirs", "new"))
		w.aws.clients["client-new"], w.aws.refresh = true, "REFRESHTOKEN-new"
		w.wantToken("ACCESSTOKEN-new")
		if !strings.Contains(strings.Join(w.answers, ""), "ACCESSTOKEN-new") ||
			strings.Contains(strings.Join(w.answers, "")+w.told.String(), "REFRESHTOKEN") {
			t.Errorf("answers %q", w.answers)
		}
	}
}

// TestAdoptPortalWhen: only without a login of our own that works, and only of the same portal.
func TestAdoptPortalWhen(t *testing.T) {
	const layout = time.RFC3339
	for name, tc := range map[string]struct {
		set  func(w *pageWorld)
		want string // token, or "" if a person has to log in
	}{
		"legacy profile": {func(w *pageWorld) {
			w.name = testStart
			w.foreignFile(cacheOfURL, w.foreignToken(50*time.Minute, layout))
		}, "ACCESSTOKEN-theirs"},
		"legacy profile with /#": {func(w *pageWorld) {
			w.name = testStart
			w.foreignFile(sha1Name(testStart+"/#"), w.foreignToken(50*time.Minute, layout))
		}, "ACCESSTOKEN-theirs"},
		"token has ended": {func(w *pageWorld) {
			w.foreignFile(cacheOfSession, w.foreignToken(-time.Minute, layout))
		}, "ACCESSTOKEN-1"},
		"own login": {func(w *pageWorld) {
			w.login()
			w.foreignFile(cacheOfSession, w.foreignToken(50*time.Minute, layout))
		}, "ACCESSTOKEN-1"},
		"own login is dead": {func(w *pageWorld) {
			w.login()
			w.age(time.Minute)
			w.foreignFile(cacheOfSession, w.foreignToken(50*time.Minute, layout))
		}, "ACCESSTOKEN-theirs"},
		"own login has another refresh in vain": {func(w *pageWorld) {
			w.login()
			w.age(time.Minute / 2)
			w.aws.refresh = "x"
		}, ""},
		"no refresh token": {func(w *pageWorld) {
			w.foreignFile(cacheOfSession, strings.Replace(w.foreignToken(5*time.Minute, layout), `"refreshToken"`, `"x"`, 1))
		}, "ACCESSTOKEN-theirs"},
		"neither": {func(w *pageWorld) {
			w.foreignFile(cacheOfSession, strings.Replace(w.foreignToken(-time.Minute, layout), `"refreshToken"`, `"x"`, 1))
		}, ""},
		"client has ended": {func(w *pageWorld) {
			w.foreignFile(cacheOfSession, strings.Replace(w.foreignToken(-time.Minute, layout), `"registrationExpiresAt"`, `"x"`, 1))
		}, ""},
		"another portal": {func(w *pageWorld) {
			w.foreignFile(cacheOfSession, strings.Replace(w.foreignToken(50*time.Minute, layout), "my.aws", "your.aws", 1))
		}, ""},
		"another region": {func(w *pageWorld) {
			w.foreignFile(cacheOfSession, strings.Replace(w.foreignToken(50*time.Minute, layout), "eu-west-1", "us-east-1", 1))
		}, ""},
		"header injection": {func(w *pageWorld) {
			w.foreignFile(cacheOfSession, strings.Replace(w.foreignToken(50*time.Minute, layout), "ACCESSTOKEN-", `A\r\nX: `, 1))
		}, ""},
		"an endpoint elsewhere": {func(w *pageWorld) {
			w.at.URL = "https://evil.example"
			w.foreignFile(cacheOfSession, w.foreignToken(50*time.Minute, layout))
		}, ""},
		"a simulator": {func(w *pageWorld) {
			w.at.URL = "http://127.0.0.1:4566"
			w.foreignFile(cacheOfSession, w.foreignToken(50*time.Minute, layout))
		}, "ACCESSTOKEN-theirs"},
		"console": {func(w *pageWorld) {
			w.page = vault.Page{Kind: profiles.ConsoleLogin, ARN: testARN}
			w.foreignFile(cacheOfSession, w.foreignToken(50*time.Minute, layout))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newPageWorld(t, profiles.Portal)
			tc.set(w)
			if tc.want == "" {
				w.wantLogin()
			} else {
				w.wantToken(tc.want)
			}
		})
	}
}

// TestAdoptPortalAfterLogout: what `aws sso login` had at the logout is not adopted, what it gets later is.
func TestAdoptPortalAfterLogout(t *testing.T) {
	for _, first := range []bool{false, true} {
		w := newPageWorld(t, profiles.Portal)
		if first {
			w.login()
		}
		w.foreignFile(cacheOfSession, w.foreignToken(50*time.Minute, time.RFC3339))
		_, err := w.do(w.errand(vault.OpEndLogin))
		must(t, err)
		w.wantLogin()
		w.foreignFile(cacheOfSession, strings.ReplaceAll(w.foreignToken(50*time.Minute, time.RFC3339), "TOKEN-theirs", "TOKEN-new"))
		w.wantToken("ACCESSTOKEN-new")
	}
	w := newPageWorld(t, profiles.Portal)
	_, err := w.do(w.errand(vault.OpEndLogin))
	must(t, err)
	if n := len(w.ring.(*lossyRing).items); n > 0 {
		t.Errorf("a logout of nothing stored %d items", n)
	}
}

// TestAdoptPortalHalfWritten: the AWS CLI truncates the file and writes it again.
func TestAdoptPortalHalfWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPageWorld(t, profiles.Portal)
		whole := w.foreignToken(50*time.Minute, time.RFC3339)
		path := w.foreignFile(cacheOfSession, whole[:100])
		time.AfterFunc(foreignPause*3/2, func() { _ = os.WriteFile(path, []byte(whole), 0o600) })
		w.wantToken("ACCESSTOKEN-theirs")
	})
}

// TestAdoptPortalRefusesFiles: a file that others could have made is not used, and the person is told.
func TestAdoptPortalRefusesFiles(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"link": func(t *testing.T, path string) {
			must(t, os.Rename(path, path+".x"))
			must(t, os.Symlink(path+".x", path))
		},
		"hard link":             func(t *testing.T, path string) { must(t, os.Link(path, path+".x")) },
		"writable":              func(t *testing.T, path string) { must(t, os.Chmod(path, 0o622)) },
		"directory":             func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, os.Mkdir(path, 0o700)) },
		"large":                 func(t *testing.T, path string) { must(t, os.Truncate(path, maxForeignFile+1)) },
		"not JSON":              func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte(`SECRET`), 0o600)) },
		"writable folder":       func(t *testing.T, path string) { must(t, os.Chmod(filepath.Dir(path), 0o777)) },
		"writable folder above": func(t *testing.T, path string) { must(t, os.Chmod(filepath.Dir(filepath.Dir(path)), 0o777)) },
		"linked folder": func(t *testing.T, path string) {
			dir := filepath.Dir(path)
			must(t, os.Rename(dir, dir+".x"))
			must(t, os.Symlink(dir+".x", dir))
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newPageWorld(t, profiles.Portal)
			path := w.foreignFile(cacheOfSession, w.foreignToken(50*time.Minute, time.RFC3339))
			spoil(t, path)
			w.wantLogin()
			if told := w.told.String(); !strings.Contains(told, "does not use the login of aws sso login: ") ||
				strings.Contains(told, "SECRET") || strings.Contains(told, "TOKEN") {
				t.Errorf("%s: told %q", name, told)
			}
		})
	}
}

// signInFile writes a file of `aws login`.
func (w *pageWorld) signInFile(dir, text string) {
	w.Helper()
	must(w.T, os.MkdirAll(dir, 0o755))
	must(w.T, os.WriteFile(filepath.Join(dir, vault.SignInFile(testARN)), []byte(text), 0o600))
}

// signInText returns the text of such a file.
func signInText(t *testing.T, w *pageWorld, curve elliptic.Curve, region string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	must(t, err)
	der, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	w.aws.refresh = "REFRESHTOKEN-theirs"
	return fmt.Sprintf(`{"accessToken": {"accessKeyId": "ASIATHEIRS", "secretAccessKey": "SECRET-theirs",
		"sessionToken": "SESSIONTOKEN-theirs", "accountId": "111122223333", "expiresAt": %q},
		"tokenType": "aws_sigv4", "clientId": %q, "refreshToken": "REFRESHTOKEN-theirs", "idToken": "x", "dpopKey": %q%s}`,
		time.Now().Add(10*time.Minute).UTC().Format(time.RFC3339), exchange.ConsoleSameDevice, text, region)
}

var expiresAt = regexp.MustCompile(`"expiresAt": "[^"]*"`)

// TestAdoptSignIn: the login of `aws login` is taken over when the request says so, with its key, and in its region.
func TestAdoptSignIn(t *testing.T) {
	if name := vault.SignInFile(testARN); !strings.HasPrefix(name, cacheOfARN) || !strings.HasSuffix(name, "391ecc.json") {
		t.Fatalf("the file is %s", name)
	}
	take := func(w *pageWorld, dir string) error {
		e := w.errand(vault.OpFinishLogin)
		e.Page.Adopt = dir
		a, err := w.do(e)
		if err == nil && (a.Identity.ARN != testARN || a.Identity.Account != "111122223333") {
			t.Errorf("the answer is %+v", a.Identity)
		}
		return err
	}
	w := newPageWorld(t, profiles.ConsoleLogin)
	dir := filepath.Join(w.home, ".aws", "login", "cache")
	if err := take(w, dir); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), dir) {
		t.Errorf("no file: %v", err)
	}
	w.signInFile(dir, signInText(t, w, elliptic.P256(), `, "signInRegion": "eu-west-1"`))
	w.wantLogin() // nobody has agreed
	w.at.Region = "us-east-1"
	must(t, take(w, dir))
	w.wantToken("ACCESSTOKEN-1")
	w.age(time.Minute)
	w.wantToken("ACCESSTOKEN-2")

	w = newPageWorld(t, profiles.ConsoleLogin)
	elsewhere := t.TempDir()
	w.signInFile(elsewhere, signInText(t, w, elliptic.P256(), ""))
	must(t, take(w, elsewhere))
	must(t, take(w, elsewhere)) // a second request that waited for the first
	w.wantToken("ACCESSTOKEN-1")
	if n := w.aws.count("refresh"); n != 1 {
		t.Errorf("%d refreshes for two requests", n)
	}

	for name, change := range map[string]func(w *pageWorld, text string) (string, string){
		"another curve": func(w *pageWorld, _ string) (string, string) { return signInText(t, w, elliptic.P384(), ""), elsewhere },
		"no key":        func(_ *pageWorld, s string) (string, string) { return strings.Replace(s, "dpopKey", "x", 1), elsewhere },
		"no refresh token": func(_ *pageWorld, s string) (string, string) {
			return strings.Replace(s, "refreshToken", "x", 1), elsewhere
		},
		"unknown client": func(_ *pageWorld, s string) (string, string) {
			return strings.Replace(s, "same-device", "x", 1), elsewhere
		},
		"another account": func(_ *pageWorld, s string) (string, string) {
			return strings.Replace(s, "111122223333", "9", 1), elsewhere
		},
		"another person": func(w *pageWorld, s string) (string, string) {
			w.aws.arn = "arn:aws:iam::111122223333:user/anna"
			return s, elsewhere
		},
		"another person, refreshed": func(w *pageWorld, s string) (string, string) {
			w.aws.arn = "arn:aws:iam::111122223333:user/anna"
			return expiresAt.ReplaceAllString(s, `"expiresAt": "2020-01-01T00:00:00Z"`), elsewhere
		},
		"the refresh token of another person": func(w *pageWorld, s string) (string, string) {
			w.aws.during = func() { w.aws.arn = "arn:aws:iam::111122223333:user/anna" }
			return s, elsewhere
		},
		"another region": func(_ *pageWorld, s string) (string, string) {
			return strings.Replace(s, `"idToken"`, `"signInRegion": "us-east-1", "idToken"`, 1), elsewhere
		},
		"spent": func(w *pageWorld, s string) (string, string) {
			w.aws.refresh = "REFRESHTOKEN-later"
			return s, elsewhere
		},
		"no keyring yet": func(w *pageWorld, s string) (string, string) {
			w.ring = &missingRing{w.ring.(*lossyRing)}
			w.aws.during = func() { t.Error("the refresh token was spent, and there is no keyring") }
			return expiresAt.ReplaceAllString(s, `"expiresAt": "2020-01-01T00:00:00Z"`), elsewhere
		},
		"ended": func(w *pageWorld, s string) (string, string) {
			w.aws.refresh = "REFRESHTOKEN-later"
			return expiresAt.ReplaceAllString(s, `"expiresAt": "2020-01-01T00:00:00Z"`), elsewhere
		},
		"no region": func(w *pageWorld, s string) (string, string) { w.at.Region = ""; return s, elsewhere },
		"not JSON":  func(_ *pageWorld, s string) (string, string) { return "SECRET", elsewhere },
		"relative":  func(_ *pageWorld, s string) (string, string) { return s, "cache" },
		"endpoint":  func(w *pageWorld, s string) (string, string) { w.at.URL = "https://evil.example"; return s, elsewhere },
		"no ARN":    func(w *pageWorld, s string) (string, string) { w.page.ARN = ""; return s, elsewhere },
		"portal": func(w *pageWorld, s string) (string, string) {
			w.page = vault.Page{Kind: profiles.Portal, StartURL: testStart, Scopes: []string{profiles.AccountScope}}
			return s, elsewhere
		},
	} {
		w := newPageWorld(t, profiles.ConsoleLogin)
		text, at := change(w, signInText(t, w, elliptic.P256(), ""))
		w.signInFile(elsewhere, text)
		if err := take(w, at); err == nil || strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "TOKEN") {
			t.Errorf("%s: %v", name, err)
		}
		if made, ok := w.ring.(*lossyRing); ok && len(made.items) > 0 {
			t.Errorf("%s: %d items are stored", name, len(made.items))
		}
	}
}

// missingRing is a keyring that was never created.
type missingRing struct{ *lossyRing }

func (*missingRing) lock(context.Context) (func(), error) { return nil, vault.ErrNotCreated }
