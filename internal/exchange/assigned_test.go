//go:build unix

package exchange

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

// portalOf answers the calls of Assigned: 20 accounts, each with two permission sets. throttled is how many calls for
// the roles of one account it refuses first.
type portalOf struct {
	mu        sync.Mutex
	throttled map[string]int
	status    int
	now, most int // calls at once
}

func (p *portalOf) answer(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/accounts") {
		var list []string
		for i := range 20 {
			list = append(list, fmt.Sprintf(`{"accountId":"1111222233%02d","accountName":"a/\u0007b"}`, i))
		}
		return jsonResponse(200, `{"accountList":[`+strings.Join(list, ",")+`]}`), nil
	}
	account := r.URL.Query().Get("account_id")
	p.mu.Lock()
	p.now++
	p.most = max(p.most, p.now)
	p.throttled[account]--
	refused := p.throttled[account] >= 0
	p.mu.Unlock()
	time.Sleep(time.Second)
	p.mu.Lock()
	p.now--
	p.mu.Unlock()
	if refused {
		return jsonResponse(p.status, `{"message":"no"}`), nil
	}
	return jsonResponse(200, fmt.Sprintf(
		`{"roleList":[{"roleName":"Admin","accountId":%q},{"roleName":"Read","accountId":%[1]q}]}`, account)), nil
}

func jsonResponse(status int, body string) *http.Response {
	resp := response(status, body)
	resp.Header.Set("Content-Type", "application/json")
	return resp
}

// TestAssigned: the list is whole and in AWS's order, four accounts are asked at once, and a portal that asks to slow
// down is asked again after a pause. A list is never returned in part: the caller removes what it lacks.
func TestAssigned(t *testing.T) {
	for _, tt := range []struct {
		name      string
		throttled int
		status    int
		kind      fault.Kind // empty if the list is whole
	}{
		{"well", 0, 0, ""},
		{"throttled", 4, http.StatusTooManyRequests, ""},
		{"always throttled", 1000, http.StatusTooManyRequests, fault.Throttled},
		{"a dead token", 1000, http.StatusUnauthorized, fault.ExpiredSession},
		{"forbidden", 1000, http.StatusForbidden, fault.Denied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &portalOf{throttled: map[string]int{"111122223307": tt.throttled}, status: tt.status}
				r := &recorder{answer: p.answer}
				c := New(Options{})
				c.connect = r.connect
				got, err := c.Assigned(t.Context(), ireland, secret.New("the-access-token"))
				if tt.kind != "" {
					wantFault(t, err, tt.kind)
					if got != nil {
						t.Errorf("a part of the list: %v", got)
					}
					return
				}
				if err != nil || len(got) != 40 || !slices.IsSortedFunc(got, func(a, b Assignment) int {
					return strings.Compare(a.AccountID+a.Role, b.AccountID+b.Role)
				}) {
					t.Errorf("%d assignments, %v", len(got), err)
				}
				if p.most != listsAtOnce {
					t.Errorf("%d calls at once", p.most)
				}
			})
		})
	}
}
