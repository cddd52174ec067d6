package daemon

import (
	"context"
	"errors"
	"time"

	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/wire"
)

// slower is how much longer a client must wait after AWS said that it asked too often.
// https://datatracker.ietf.org/doc/html/rfc8628#section-3.5
const slower = 5 * time.Second

// beginLogin replies with the page on which a person logs in. The client opens it and listens for its redirect.
func (d *Daemon) beginLogin(ctx context.Context, c call) error {
	redirect := ""
	if c.req.Page != nil {
		redirect = c.req.Page.Redirect
	}
	login, answer, err := d.Broker.BeginLogin(ctx, d.request(c), redirect)
	d.record("login_begun", "", c, answer, err)
	if err != nil {
		return err
	}
	page := wire.Page(login)
	return c.reply(wire.Response{Page: &page})
}

// finishLogin exchanges the code of a page for a login. While nobody has confirmed on the page, it replies with the
// page again and with the time to wait.
func (d *Daemon) finishLogin(ctx context.Context, c call) error {
	page := wire.Page{}
	if c.req.Page != nil {
		page = *c.req.Page
	}
	r := d.request(c)
	code := r.Code
	r.Code = secret.String{} // it is no code of an MFA device
	answer, err := d.Broker.FinishLogin(ctx, r, session.Login(page), code)
	switch {
	case errors.Is(err, session.ErrSlowDown):
		page.Interval += slower
		return c.reply(wire.Response{Page: &page})
	case errors.Is(err, session.ErrPending):
		return c.reply(wire.Response{Page: &page})
	}
	d.record("login", "", c, answer, err)
	if err != nil {
		return err
	}
	return d.loggedIn(c, answer)
}
