package profiles

import (
	"bytes"
	"errors"

	"broker/internal/fault"
)

// A Plan says what the documents are to become. It has no other effect: it is asked
// again when a file turns out to have changed.
type Plan func(Documents) (Documents, []Outcome, error)

// errStale says that the plan was made for a file that is not there any more.
var errStale = errors.New("a file that was written before has to change again")

// rounds bounds how often Rewrite starts over.
const rounds = 20

// Rewrite brings the documents to what plan says, one file after the other. Each is
// planned again with the bytes that edit finds in it; if then a file that comes before
// in the order would have to be another one, it starts over. So whatever others
// write meanwhile is taken into account, and when it is cut short at any point,
// doing it again completes it.
//
// read returns the bytes of a file, edit changes it as atomicfile.Edit does. Errors
// are those of plan, read and edit, and fault.Failed if others keep writing.
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
			case o.State != Unchanged: // else it was done by an earlier round
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
	return nil, fault.New(fault.Failed, "other programs keep writing the files; it is done in part, and works as it is")
}

// pass writes each file once.
func pass(order []Document, docs, next Documents, edit func(Document, func([]byte) ([]byte, error)) error, plan Plan) error {
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

func same(a, b Documents) bool {
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}
