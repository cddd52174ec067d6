package cli

import (
	"slices"
	"strings"
	"testing"
)

func TestReadVariables(t *testing.T) {
	got, err := readVariables("f", strings.NewReader("\ufeff# comment\n\n  A=1\r\nB=\"x y\" # z\nC=a=b\nA=2\nHOME\n_d=\n"))
	want := []variable{{"B", `"x y" # z`}, {"C", "a=b"}, {"A", "2"}, {"_d", ""}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{
		"A B=c", "export A=b", "=x", "1A=b", "A-B=c", "A=b\x00c", "$(touch x)=y", "AWS_PROFILE=x", "AWS_SESSION_TOKEN", "BROKER_PROFILE=x", "AWS_REGION=x",
		"A=" + strings.Repeat("x", maxEnvFile), strings.Repeat("A=b\n", maxEnvFile/4+1),
	} {
		if got, err := readVariables("f", strings.NewReader(bad)); err == nil {
			t.Errorf("%.40q: %.80q", bad, got)
		}
	}
}

func TestAdditions(t *testing.T) {
	made := []string{"PATH=/bin", "AWS_REGION=profile", "AWS_DEFAULT_REGION=profile", "A=old"}
	outer := []string{"PATH=/bin", "AWS_DEFAULT_REGION=outer", "A=old"}
	for _, test := range []struct {
		add  additions
		want string
	}{
		{additions{}, "PATH=/bin AWS_REGION=profile AWS_DEFAULT_REGION=profile A=old"},
		{additions{region: "r"}, "PATH=/bin A=old AWS_REGION=r AWS_DEFAULT_REGION=r"},
		{additions{noRegion: true}, "PATH=/bin A=old AWS_DEFAULT_REGION=outer"},
		{additions{more: []variable{{"A", "new"}}}, "PATH=/bin AWS_REGION=profile AWS_DEFAULT_REGION=profile A=new"},
	} {
		if got := strings.Join(test.add.to(slices.Clone(made), outer), " "); got != test.want {
			t.Errorf("%+v: %s", test.add, got)
		}
	}
}
