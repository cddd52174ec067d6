package client

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestWrap checks that the prompt for a code fits a terminal, and that no word is lost or cut.
func TestWrap(t *testing.T) {
	const question = "MFA code for security (arn:aws:iam::111122223333:mfa/paul), sent to https://sts.example.com, asked by aws:"
	for _, columns := range []int{0, 1, 20, 40, 60, 80, 120, 200} {
		got := wrap(question, columns)
		if strings.Join(strings.Fields(got), " ") != question {
			t.Errorf("%d columns: %q", columns, got)
		}
		for line := range strings.SplitSeq(got, "\r\n") {
			if columns >= 60 && utf8.RuneCountInString(line)+2 > columns {
				t.Errorf("%d columns: %q is too wide", columns, line)
			}
		}
		if (columns == 0 || columns >= 120) && got != question {
			t.Errorf("%d columns: %q", columns, got)
		}
	}
}
