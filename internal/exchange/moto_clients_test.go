//go:build clients && unix

package exchange

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// TestClientMoto uses an independent server. It proves nothing about signatures, which moto does not check, but it
// tests the form of requests and answers. https://docs.getmoto.org/en/latest/docs/server_mode.html
func TestClientMoto(t *testing.T) {
	program, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skip("SKIPPED: moto_server is not on the PATH, so no independent STS was tested (pip install 'moto[server]')")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()

	moto := exec.Command(program, "-H", "127.0.0.1", "-p", port)
	moto.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the program may be a script that starts the server
	moto.Env = append(os.Environ(), "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	if err := moto.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-moto.Process.Pid, syscall.SIGKILL)
		moto.Wait()
	})
	endpoint := "http://127.0.0.1:" + port
	deadline := time.Now().Add(2 * patience)
	for {
		resp, err := http.Get(endpoint + "/moto-api/")
		if err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("moto_server does not start: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
	}

	c := New(Options{STSEndpoint: endpoint, Timeout: patience}) // moto loads its modules at the first request
	ctx := background(t)
	keys := Keys{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", Secret: secret.New(longSecret)}
	if who, err := c.Identity(ctx, keys, profiles.Endpoint{}); err != nil {
		t.Error(err)
	} else if who.Account == "" {
		t.Error("no account")
	}
	opened, err := c.Call(
		ctx,
		keys,
		session.Call{Operation: session.GetSessionToken, Duration: 12 * time.Hour, MFASerial: aSerial},
		secret.New(aCode),
	)
	if err != nil {
		t.Fatal(err)
	}
	last := opened
	for i, account := range []string{"444455556666", "555566667777"} {
		call := session.Call{
			Operation: session.AssumeRole, RoleARN: fmt.Sprintf("arn:aws:iam::%s:role/path/step%d", account, i), SessionName: "paul",
			Endpoint: profiles.Endpoint{Region: "eu-west-1"}, Duration: time.Hour, Tags: []session.Tag{{Key: fmt.Sprintf("a%d", i), Value: "b"}},
			TransitiveTags: []string{fmt.Sprintf("a%d", i)}, SourceIdentity: "paul",
			Policy: `{"Version":"2012-10-17","Statement":[]}`, PolicyARN: "arn:aws:iam::aws:policy/ReadOnlyAccess",
		}
		if last, err = c.Assume(ctx, last, call); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("arn:aws:sts::%s:assumed-role/step%d/paul", account, i)
		if last.Subject != want {
			t.Errorf("subject %q, want %q", last.Subject, want)
		}
		if d := time.Until(last.Expires); d < 55*time.Minute || d > 65*time.Minute {
			t.Errorf("expires in %s", d)
		}
	}

	t.Run("keys and devices", func(t *testing.T) { testMotoUser(t, c, endpoint) })
}

// testMotoUser rotates the key of a user, and enrolls a device. moto does not check codes.
func testMotoUser(t *testing.T, c *Client, endpoint string) {
	ctx := background(t)
	admin := iam.New(iam.Options{
		BaseEndpoint: aws.String(endpoint),
		Region:       "us-east-1",
		Credentials:  credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", longSecret, ""),
	})
	if _, err := admin.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("paul")}); err != nil {
		t.Fatal(err)
	}
	first, err := admin.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("paul")})
	if err != nil {
		t.Fatal(err)
	}
	old := Keys{AccessKeyID: *first.AccessKey.AccessKeyId, Secret: secret.New(*first.AccessKey.SecretAccessKey)}
	fresh, err := c.CreateAccessKey(ctx, old, anywhere)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.KeyLastUsed(ctx, fresh, anywhere, old.AccessKeyID); err != nil {
		t.Error(err)
	}
	if err := c.SetKeyStatus(ctx, fresh, anywhere, old.AccessKeyID, false); err != nil {
		t.Error(err)
	}
	list, err := c.AccessKeys(ctx, fresh, anywhere)
	if err != nil || len(list) != 2 || list[0].Active || !list[1].Active || list[1].ID != fresh.AccessKeyID {
		t.Errorf("keys %v, %v", list, err)
	}
	if err := c.DeleteKey(ctx, fresh, anywhere, old.AccessKeyID); err != nil {
		t.Error(err)
	}
	if err := c.DeleteKey(ctx, fresh, anywhere, old.AccessKeyID); !errors.Is(err, ErrNotThere) {
		t.Errorf("deleted twice: %v", err)
	}

	made, err := c.CreateDevice(ctx, fresh, anywhere, "phone")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateDevice(ctx, fresh, anywhere, "phone"); !errors.Is(err, ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	err = c.EnableDevice(ctx, fresh, anywhere, "paul", made.Serial, secret.New("123456"), secret.New("234567"))
	if err != nil {
		t.Fatal(err)
	}
	// moto needs the name of the user here, AWS does not.
	in := &iam.DeactivateMFADeviceInput{SerialNumber: &made.Serial, UserName: aws.String("paul")}
	if _, err := admin.DeactivateMFADevice(ctx, in); err != nil {
		t.Error(err)
	}
	if err := c.DeleteDevice(ctx, fresh, anywhere, made.Serial); err != nil {
		t.Error(err)
	}
}
