package profiles

import (
	"bytes"
	"errors"
	"slices"

	"broker/internal/fault"
)

// A Plan returns what the documents are to become. It must have no side effects: Rewrite calls it again if a file
// has changed.
type Plan func(Documents) (Documents, []Outcome, error)

// errStale means that the plan is based on a file that has changed since.
var errStale = errors.New("a file that was already written must change again")

// rounds is how often Rewrite starts over at most.
const rounds = 20

// Rewrite changes the documents to what plan returns, one file after the other. For each file it calls plan again
// with the bytes that edit finds there. If an earlier file in the order would then have to differ, Rewrite starts
// over. So it takes concurrent changes by other programs into account, and after an interruption at any point the
// next call completes the work.
//
// read returns the bytes of a file; edit changes it as atomicfile.Edit does. Errors are those of plan, read and
// edit, and fault.Failed if other programs keep writing.
func Rewrite(order []Document, read func(Document) ([]byte, error),
	edit func(Document, func(src []byte) ([]byte, error)) error, plan Plan) ([]Outcome, error) {
	var all []Outcome
	place := map[string]int{}
	for range rounds {
		var docs Documents
		var err error
		for _, d := range order {
			if docs[d], err = read(d); err != nil {
				return nil, err
			}
		}
		next, out, err := plan(docs)
		if err != nil {
			return nil, err
		}
		for _, o := range out {
			i, known := place[o.Name]
			switch {
			case !known:
				place[o.Name] = len(all)
				all = append(all, o)
			case o.State != Unchanged: // otherwise an earlier round already did it
				if o.Note == "" {
					o.Note = all[i].Note
				}
				all[i] = o
			}
		}
		if same(docs, next) {
			return all, nil
		}
		err = pass(order, docs, next, edit, plan)
		if err != nil && !errors.Is(err, errStale) {
			return nil, err
		}
	}
	return nil, fault.New(fault.Failed,
		"other programs keep writing the files; only a part of the change is done, and all profiles work")
}

// pass writes each file once.
func pass(
	order []Document,
	docs, next Documents,
	edit func(Document, func([]byte) ([]byte, error)) error,
	plan Plan,
) error {
	for i, d := range order {
		if bytes.Equal(docs[d], next[d]) {
			continue
		}
		err := edit(d, func(src []byte) ([]byte, error) {
			now := docs
			now[d] = bytes.Clone(src)
			n, _, err := plan(now)
			if err != nil {
				return nil, err
			}
			for _, earlier := range order[:i] {
				if !bytes.Equal(n[earlier], docs[earlier]) {
					return nil, errStale
				}
			}
			next = n
			return n[d], nil
		})
		if err != nil {
			return err
		}
		docs[d] = next[d]
	}
	return nil
}

func same(a, b Documents) bool { return slices.EqualFunc(a[:], b[:], bytes.Equal) }
