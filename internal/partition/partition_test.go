package partition

import "testing"

func TestAccountOfARN(t *testing.T) {
	for arn, want := range map[string]string{
		"arn:aws:iam::123456789012:role/a/b":                           "123456789012",
		"arn:aws-cn:iam::123456789012:mfa/x":                           "123456789012",
		"arn:aws:organizations::210987654321:account/o-x/123456789012": "210987654321",
		"arn:aws:iam:::role/x":                                         "",
		"arn:aws:iam::123456789012":                                    "",
		"arn:aws:logs:eu-west-1:123456789012:log-group:x":              "",
		"nra:aws:iam::123456789012:role/x":                             "",
		"GAHT12345678":                                                 "",
		"":                                                             "",
	} {
		if got := AccountOfARN(arn); got != want {
			t.Errorf("AccountOfARN(%q) = %q, want %q", arn, got, want)
		}
	}
}
