package mfa

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"broker/internal/record"
	"broker/internal/secret"
)

const (
	ledgerFile = "mfa-ledger"
	ledgerLock = "mfa-ledger.lock"

	ledgerVersion = 1
	maxLedger     = 1 << 20
	saltBytes     = 16

	// keep is how long a claim is kept. AWS accepts a code for its own period and a few around it; five minutes is
	// well beyond that. If two codes within that time are equal by chance, the second waits for one period.
	keep = 5 * time.Minute

	// farFuture limits claims with a date in the future, which a wrong clock has made. They are kept, because the
	// same codes come again once the clock is set back, but not forever.
	farFuture = 48 * time.Hour

	lockPatience = 5 * time.Second
)

// Ledger is the list of used MFA codes, in a file of the state directory that all processes share. A code is
// claimed before it is sent, and the claim is on the disk by then. So neither a crash nor a second process can use
// a code again. Dir must be set.
//
// The file holds a salted hash of serial and code, and the time of the claim; it holds neither the serial nor the
// code.
type Ledger struct {
	// Dir is the state directory. It is created with mode 0700 if it is missing.
	Dir string
	// Waiting, if not nil, is called before Next waits for another period.
	Waiting func(*SpentError)
}

// SpentError means that a code was used before, or may have been.
type SpentError struct {
	Next time.Time // start of the next period, by the caller's clock
	// Damaged is the new name of a damaged ledger. It is empty unless the claim was refused because it is unknown
	// which codes of this period were used.
	Damaged string
}

// Error implements error.
func (e *SpentError) Error() string {
	at := e.Next.Local().Format(time.TimeOnly)
	if e.Damaged != "" {
		return fmt.Sprintf("the list of used MFA codes was damaged (set aside as %s), so the current code cannot be used; "+
			"the next comes at %s", e.Damaged, at)
	}
	return fmt.Sprintf("this MFA code was used already; the next comes at %s", at)
}

type ledgerEntry struct {
	Hash string `json:"hash"`
	At   int64  `json:"at"` // seconds since 1970
}

type ledgerContents struct {
	Version int           `json:"version"`
	Salt    []byte        `json:"salt"`
	Claims  []ledgerEntry `json:"claims"`
	// No code can be claimed before this second; set when a damaged ledger was replaced.
	BlockedUntil int64  `json:"blocked_until,omitempty"`
	Damaged      string `json:"damaged,omitempty"`
}

// Claim records the use of a code of a device at a time. Only if it returns nil may the code be sent. A
// *SpentError means that the code was claimed before. Any other error means that the claim could not be written.
func (l Ledger) Claim(serial string, code secret.String, now time.Time) error {
	if code.IsZero() {
		return errors.New("claim: no code")
	}
	dir, unlock, err := l.open()
	if err != nil {
		return fmt.Errorf("record the use of the MFA code: %w", err)
	}
	defer unlock()
	err = claimLocked(dir, serial, code, now)
	var spent *SpentError
	if err != nil && !errors.As(err, &spent) {
		return fmt.Errorf("record the use of the MFA code: %w", err)
	}
	return err
}

// Next claims and returns the first unused code of the seed, at or after the clock's time. While the current code
// is used, it waits for the next period. If ctx ends before that, it returns the *SpentError at once.
func (l Ledger) Next(ctx context.Context, serial string, seed Seed, clock func() time.Time) (secret.String, error) {
	for {
		if err := ctx.Err(); err != nil {
			return secret.String{}, err
		}
		now := clock()
		code, _ := seed.Code(now)
		if code.IsZero() {
			return secret.String{}, errors.New("the seed gives no code")
		}
		err := l.Claim(serial, code, now)
		if err == nil {
			return code, nil
		}
		var spent *SpentError
		if !errors.As(err, &spent) {
			return secret.String{}, err
		}
		wait := spent.Next.Sub(now)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return secret.String{}, err
		}
		if l.Waiting != nil {
			l.Waiting(spent)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return secret.String{}, ctx.Err()
		case <-timer.C:
		}
	}
}

func claimLocked(dir *record.Dir, serial string, code secret.String, now time.Time) error {
	book, err := readLedger(dir)
	if errors.Is(err, record.ErrRefused) {
		return replaceLocked(dir, now)
	}
	if err != nil {
		return err
	}
	// If the time is more than one period away, a wrong clock wrote it.
	if until := time.Unix(book.BlockedUntil, 0); now.Before(until) && until.Sub(now) <= Period {
		return &SpentError{Next: until, Damaged: book.Damaged}
	}
	hash := book.hash(serial, code)
	for _, c := range book.Claims {
		if hmac.Equal([]byte(c.Hash), []byte(hash)) && now.Sub(time.Unix(c.At, 0)) < keep {
			return &SpentError{Next: nextStep(now)}
		}
	}
	book.BlockedUntil, book.Damaged = 0, ""
	book.Claims = slices.DeleteFunc(book.Claims, func(c ledgerEntry) bool {
		age := now.Sub(time.Unix(c.At, 0))
		return age >= keep || age < -farFuture
	})
	book.Claims = append(book.Claims, ledgerEntry{Hash: hash, At: now.Unix()})
	return writeLocked(dir, book)
}

// replaceLocked sets a damaged ledger aside and starts one in which all codes of the current period count as used.
func replaceLocked(dir *record.Dir, now time.Time) error {
	aside, err := dir.SetAside(ledgerFile, true)
	if err != nil {
		return fmt.Errorf("set the damaged %s aside: %w", ledgerFile, err)
	}
	book := newLedger()
	until := nextStep(now)
	book.BlockedUntil, book.Damaged = until.Unix(), aside
	if err := writeLocked(dir, book); err != nil {
		return err
	}
	return &SpentError{Next: until, Damaged: book.Damaged}
}

// readLedger returns the ledger, or a new one if the file does not exist. The error is a record.ErrRefused if the
// file is damaged.
func readLedger(dir *record.Dir) (ledgerContents, error) {
	data, err := dir.Read(ledgerFile, maxLedger, record.Guarded)
	if errors.Is(err, fs.ErrNotExist) {
		return newLedger(), nil
	}
	if err != nil {
		return ledgerContents{}, err
	}
	return decodeLedger(data)
}

func decodeLedger(data []byte) (ledgerContents, error) {
	var book ledgerContents
	if err := record.Decode(data, ledgerVersion, &book, nil); err != nil {
		return ledgerContents{}, fmt.Errorf("%w: %w", record.ErrRefused, err)
	}
	if len(book.Salt) != saltBytes || book.Claims == nil {
		return ledgerContents{}, fmt.Errorf("%w: it has no salt", record.ErrRefused)
	}
	return book, nil
}

func newLedger() ledgerContents {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // crypto/rand never fails: it ends the process instead
	return ledgerContents{Version: ledgerVersion, Salt: salt, Claims: []ledgerEntry{}}
}

func (b ledgerContents) hash(serial string, code secret.String) string {
	mac := hmac.New(sha256.New, b.Salt)
	_, _ = fmt.Fprintf(mac, "%d:%s:%s", len(serial), serial, code.Reveal())
	return base64.RawStdEncoding.EncodeToString(mac.Sum(nil))
}

func writeLocked(dir *record.Dir, book ledgerContents) error {
	if err := dir.Sweep(); err != nil { // drafts of killed processes
		return err
	}
	data, err := json.Marshal(book)
	if err != nil {
		return err
	}
	return dir.Replace(ledgerFile, append(data, '\n'))
}

// open opens the state directory, and locks the ledger for this process. The kernel releases the lock when the
// process ends, however it ends.
func (l Ledger) open() (dir *record.Dir, unlock func(), err error) {
	if !filepath.IsAbs(l.Dir) {
		return nil, nil, fmt.Errorf("the state directory %q is not an absolute path", l.Dir)
	}
	if dir, err = record.Make(l.Dir, record.Guarded); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockPatience)
	defer cancel()
	lock, err := dir.Lock(ctx, ledgerLock)
	if err != nil {
		_ = dir.Close()
		return nil, nil, err
	}
	return dir, func() { _ = errors.Join(lock.Close(), dir.Close()) }, nil
}
