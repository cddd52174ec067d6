package cli

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"io"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/console"
	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/partition"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/wire"
)

// pagePatience is how long a login waits for the browser, as the AWS CLI does.
const pagePatience = 10 * time.Minute

// pageLogin is a login on a web page. Only the command `broker login` makes one: no other command opens a browser to
// log in.
type pageLogin struct {
	*program
	set     *profiles.Set
	name    string // what the person named
	source  profiles.Source
	wanted  *profiles.Assignment // what the named profile gives; nil for a portal or a console
	browser console.Browser
	// elsewhere means that the browser is not on this machine: the person types or pastes a code.
	elsewhere bool
	patience  time.Duration
	printed   fault.Hint // the command that needs no browser here
	// begin returns the page for a redirect, and finish exchanges the code of a page. finish returns the page again
	// while nobody has confirmed.
	begin  func(ctx context.Context, redirect string) (wire.Page, error)
	finish func(ctx context.Context, page wire.Page, code secret.String) (*wire.Page, error)
}

// pageOptions are the options of a login on a page.
type pageOptions struct {
	device, remote bool
	browser        *string // nil if it is not given
	yes            bool    // the person agrees to all questions but those on the page
}

// given returns the name of one option that is given, or "".
func (o pageOptions) given() string {
	switch {
	case o.device:
		return "device"
	case o.remote:
		return "remote"
	case o.browser != nil:
		return "browser"
	}
	return ""
}

// newPageLogin prepares a login to a source. It checks everything that can be wrong before AWS is asked.
func (p *program) newPageLogin(
	set *profiles.Set, name string, source profiles.Source, o pageOptions,
) (*pageLogin, error) {
	settings, err := set.Settings()
	if err != nil {
		return nil, err
	}
	l := &pageLogin{program: p, set: set, name: name, source: source, patience: pagePatience}
	if chain, err := set.Resolve(name); err == nil {
		l.wanted = chain.Assignment
	}
	l.printed = fault.Hintf("broker login %s --device", name)
	wrong := o.remote
	if source.Kind == profiles.ConsoleLogin {
		l.printed = fault.Hintf("broker login %s --remote", name)
		wrong = o.device
	}
	if wrong {
		return nil, fault.New(fault.Usage, "--%s does not work for %q", o.given(), source.Name).WithHint("%s", l.printed)
	}
	shown := o.browser != nil || hasDisplay()
	l.elsewhere = o.device || o.remote || o.browser == nil && isRemote() || !shown && os.Getenv("BROWSER") == ""
	if l.elsewhere {
		return l, nil
	}
	l.browser.Profile, l.browser.Account = source.Name, partition.AccountOfARN(source.ARN)
	if l.browser.Words, err = set.Browser(name); err != nil {
		return nil, err
	}
	if l.browser, err = p.findBrowser(l.browser, o.browser, settings, l.printed); errors.Is(err, console.ErrNoBrowser) {
		l.elsewhere = true
		return l, nil
	}
	l.elsewhere = !shown && len(l.browser.Words) == 0 // BROWSER names nothing that may run
	return l, err
}

// browserOption returns the value of --browser, or nil.
func browserOption(c *cli.Context) *string {
	if !c.IsSet("browser") {
		return nil
	}
	command := c.String("browser")
	return &command
}

// findBrowser completes a browser with the option --browser or, if nothing else names one, with BROWSER of the shell.
// It checks that the browser can be run.
func (p *program) findBrowser(
	b console.Browser, option *string, settings profiles.Settings, printed fault.Hint,
) (console.Browser, error) {
	if option != nil {
		if b.Words = profiles.SplitCommand(*option); len(b.Words) == 0 {
			return b, fault.New(fault.Usage, "--browser is empty").WithHint("%s", printed)
		}
	}
	b.Path, _ = environ.Path(os.Getenv("HOME"), settings.Path)
	if len(b.Words) == 0 {
		var warnings []string
		b.Words, warnings = console.FromShell(os.Getenv("BROWSER"), b.Path)
		b.Dir = console.ShellDir
		p.warn(warnings)
	}
	if _, err := b.Command(""); err != nil {
		return b, fault.Of(err).WithHint("%s", printed)
	}
	return b, nil
}

// isRemote reports whether a browser that is opened here could not lead back to this process: over ssh, and in WSL,
// whose browser is that of Windows.
func isRemote() bool {
	for _, name := range []string{"SSH_CONNECTION", "SSH_TTY", "WSL_DISTRO_NAME", "WSL_INTEROP"} {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return false
}

// hasDisplay reports whether the machine's default browser has a display. A command in BROWSER may need none.
func hasDisplay() bool {
	return runtime.GOOS == "darwin" || runtime.GOOS == "windows" ||
		os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
}

// run leads a person through the login.
func (l *pageLogin) run(ctx context.Context) error {
	l.interrupts.catch()
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	var err error
	switch {
	case !l.elsewhere:
		err = l.inBrowser(ctx)
	case l.source.Kind == profiles.ConsoleLogin:
		err = l.byPaste(ctx)
	default:
		err = l.byDevice(ctx)
	}
	switch {
	case l.interrupts.Err() != nil:
		return fault.ErrInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.LoginNeeded, "nobody logged in to %s within %s", l.source.Name,
			profiles.FormatDuration(l.patience)).WithHint("broker login %s", l.name)
	}
	return err
}

// inBrowser opens the page in the browser of this machine. It listens before it asks for the page: a browser with a
// session of its own leads back at once.
func (l *pageLogin) inBrowser(ctx context.Context) error {
	callback, err := console.NewCallback()
	if err != nil {
		return fault.New(fault.Failed, "listen on loopback for the browser: %w", err).WithHint("%s", l.printed)
	}
	defer callback.Close()
	page, err := l.begin(ctx, callback.URL())
	if err != nil {
		return err
	}
	l.explain("log in in the browser", page)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// The address is no argument of the browser: anybody who reads
	// the state there could log Broker in as another person.
	opened := make(chan error, 1)
	go func() { opened <- visit{browser: l.browser, printed: l.printed}.open(ctx, secret.New(page.URL)) }()
	var code secret.String
	came := make(chan error, 1)
	go func() {
		var err error
		code, err = callback.Wait(ctx, page.State)
		came <- err
	}()
	for waits := true; waits; {
		select {
		case err := <-opened:
			if err != nil && ctx.Err() == nil {
				l.warn([]string{err.Error() + "; open the address above yourself, or try " + string(l.printed)})
			}
		case err = <-came:
			waits = false
		}
	}
	if errors.Is(err, console.ErrDeclined) {
		return fault.New(fault.Denied, "%s: %w", l.source.Name, err).WithHint("broker login %s", l.name)
	}
	if err != nil {
		return err
	}
	_, err = l.finish(ctx, page, code)
	return err
}

// shortestPoll is the shortest time between two questions whether a person has confirmed.
const shortestPoll = time.Second

// byDevice shows a code that the person confirms on the page, on any device.
func (l *pageLogin) byDevice(ctx context.Context) error {
	page, err := l.begin(ctx, "")
	if err != nil {
		return err
	}
	l.explain("log in on any device", page)
	l.say("compare the code %s with that on the page, and confirm only if they are equal", fault.Line(page.UserCode))
	for {
		if err := l.pause(ctx, max(page.Interval, shortestPoll)); err != nil {
			return context.Cause(ctx)
		}
		if !page.Expires.IsZero() && l.now().After(page.Expires) {
			return fault.New(fault.LoginNeeded, "the code %s has expired", page.UserCode).WithHint("broker login %s", l.name)
		}
		switch again, err := l.finish(ctx, page, secret.String{}); {
		case fault.Is(err, fault.Network), fault.Is(err, fault.Throttled): // the person may have confirmed meanwhile
			l.warn([]string{err.Error()})
		case err != nil:
			return err
		case again == nil:
			return nil
		default:
			page = *again
		}
	}
}

// byPaste shows an address that the person opens anywhere, and reads the text that the page shows at the end.
func (l *pageLogin) byPaste(ctx context.Context) error {
	page, err := l.begin(ctx, "")
	if err != nil {
		return err
	}
	l.explain("log in on any device", page)
	text, err := l.pasted(ctx)
	if err != nil {
		return err
	}
	code, err := codeOf(text, page.State)
	if err != nil {
		return fault.Of(err).WithHint("%s", l.printed)
	}
	_, err = l.finish(ctx, page, code)
	return err
}

// pasted reads the text from stdin, or from the terminal.
func (l *pageLogin) pasted(ctx context.Context) (secret.String, error) {
	if !isTerminal(l.stdin) {
		text, err := io.ReadAll(io.LimitReader(l.stdin, maxPaste))
		if err == nil && len(text) > 0 {
			return secret.New(string(text)), nil
		}
	}
	t, err := l.openTerminal()
	if err != nil {
		return secret.String{}, fault.Of(err).WithHint("%s < FILE", l.printed)
	}
	defer func() { _ = t.Close() }()
	return t.pasted(ctx, "Text from the page: ")
}

// codeOf returns the code in a text of the form state=…&code=…, which the page shows in base64.
func codeOf(text secret.String, state string) (secret.String, error) {
	plain := strings.Join(strings.Fields(text.Reveal()), "")
	trimmed := strings.TrimRight(plain, "=")
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if b, err := encoding.DecodeString(trimmed); err == nil {
			plain = string(b)
			break
		}
	}
	query, err := url.ParseQuery(plain)
	if err != nil || query.Get("code") == "" {
		return secret.String{}, fault.New(fault.Usage, "this is not the text that the page shows at the end")
	}
	if state == "" || subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(state)) != 1 {
		return secret.String{}, fault.New(fault.Usage, "this text belongs to another login")
	}
	return secret.New(query.Get("code")), nil
}

// explain shows where the person logs in.
func (l *pageLogin) explain(how string, page wire.Page) {
	where := "the console of AWS"
	if u, err := url.Parse(l.source.StartURL); err == nil && u.Host != "" {
		where = "the portal " + u.Host
	}
	if account := partition.AccountOfARN(l.source.ARN); account != "" {
		where += ", account " + account
	}
	if l.wanted != nil {
		where += ", for " + l.wanted.RoleName + " in account " + l.wanted.AccountID
	}
	l.say("%s: %s, at %s", fault.Line(l.source.Name), how, fault.Line(where))
	l.raw(page.URL)
}

// makeKeyring creates the file keyring if it does not exist: a person without a long-lived key did not need it before.
func (l *pageLogin) makeKeyring(ctx context.Context) error {
	ring, err := l.openKeyring(ctx, l.set)
	if err != nil {
		return err
	}
	ring.makes = true
	if err := ring.with(ctx, func() error { return ring.Check(ctx) }); err != nil {
		return err
	}
	return ring.keep()
}

// errNoPage means that no page is needed, because the login works.
var errNoPage = errors.New("the login works")

// askMaking sends a request of a login. If the keyring was never created, it creates it and sends the request again.
// The login of another tool may be in it then: in that case the error is errNoPage, and done gets the answer.
func (l *pageLogin) askMaking(ctx context.Context, req wire.Request, done *wire.Response) (wire.Response, error) {
	resp, err := l.ask(ctx, req)
	if !fault.Is(err, fault.NotFound) {
		return resp, err
	}
	if err = l.makeKeyring(ctx); err != nil {
		return resp, err
	}
	if *done, err = l.ask(ctx, wire.Request{Verb: wire.Login, Profile: l.name}); err == nil {
		return resp, errNoPage
	}
	return l.ask(ctx, req)
}

// byDaemon makes the daemon begin and finish the login. done gets the answer to the last request.
func (l *pageLogin) byDaemon(done *wire.Response) *pageLogin {
	l.begin = func(ctx context.Context, redirect string) (wire.Page, error) {
		req := wire.Request{Verb: wire.BeginLogin, Profile: l.name, Page: &wire.Page{Redirect: redirect}}
		resp, err := l.askMaking(ctx, req, done)
		if err == nil && (resp.Page == nil || resp.Page.URL == "") {
			err = fault.New(fault.Unreachable, "the daemon's answer has no page to log in on")
		}
		if err != nil {
			return wire.Page{}, err
		}
		return *resp.Page, nil
	}
	l.finish = func(ctx context.Context, page wire.Page, code secret.String) (*wire.Page, error) {
		resp, err := l.askMaking(ctx, wire.Request{Verb: wire.FinishLogin, Profile: l.name, Page: &page, Code: code}, done)
		if errors.Is(err, errNoPage) {
			return nil, err
		}
		if err == nil && resp.Page == nil && (resp.Status == nil || len(resp.Status.Sessions) == 0) {
			err = fault.New(fault.Unreachable, "the daemon's answer has no login")
		}
		*done = resp
		return resp.Page, err
	}
	return l
}
