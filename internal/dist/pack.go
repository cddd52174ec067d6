package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"broker/internal/version"
)

// sumsName is the file of checksums, in the format that sha256sum writes and checks.
const sumsName = "SHA256SUMS"

// nfpmConfig is the part of https://nfpm.goreleaser.com/docs/configuration/ that Broker uses. It is written as
// JSON, which is also valid YAML.
type nfpmConfig struct {
	Name        string        `json:"name"`
	Arch        string        `json:"arch"`
	Version     string        `json:"version"`
	Maintainer  string        `json:"maintainer"`
	Description string        `json:"description"`
	License     string        `json:"license"`
	MTime       string        `json:"mtime"`
	Contents    []nfpmContent `json:"contents"`
}

type nfpmContent struct {
	Source      string       `json:"src,omitempty"`
	Destination string       `json:"dst"`
	Type        string       `json:"type,omitempty"`
	Info        nfpmFileInfo `json:"file_info"`
}

type nfpmFileInfo struct {
	Mode  fs.FileMode `json:"mode,omitempty"`
	MTime string      `json:"mtime"`
	Owner string      `json:"owner"`
	Group string      `json:"group"`
}

// nfpm prints nfpm's configuration for a package with the files in stage, with their modes and owned by root. A
// package owns the directories that are named after it, but no others: /usr/bin belongs to the system.
func nfpm(w io.Writer, stage, arch string, info version.Info) error {
	if _, err := date(info); err != nil {
		return err
	}
	number, err := packageVersion(info)
	if err != nil {
		return err
	}
	c := nfpmConfig{Name: "broker", Arch: arch, Version: number, License: "MIT", MTime: info.Date,
		Maintainer: "The Broker authors", Description: description}
	stage = filepath.Clean(stage)
	err = filepath.WalkDir(stage, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		content := nfpmContent{Source: path, Destination: strings.TrimPrefix(path, stage),
			Info: nfpmFileInfo{MTime: info.Date, Owner: "root", Group: "root"}}
		fileInfo, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.Type().IsRegular():
			content.Info.Mode = fileInfo.Mode().Perm()
		case d.Type() == fs.ModeSymlink:
			if content.Source, err = os.Readlink(path); err != nil {
				return err
			}
			content.Type = "symlink"
		case d.IsDir() && d.Name() == c.Name:
			content.Source, content.Type, content.Info.Mode = "", "dir", 0o755
		case d.IsDir():
			return nil
		default:
			return fmt.Errorf("%s is neither a file nor a directory nor a link", path)
		}
		c.Contents = append(c.Contents, content)
		return nil
	})
	if err != nil {
		return err
	}
	if len(c.Contents) == 0 {
		return fmt.Errorf("no files in %s", stage)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(c)
}

// archive packs the files of dir, sorted by name, owned by root and with the date of the commit. In the archive
// they are in a directory with the name of the archive.
func archive(dir, out string, info version.Info) error {
	at, err := date(info)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	if top, ok := strings.CutSuffix(filepath.Base(out), ".zip"); ok {
		err = packZip(&packed, dir, top, at)
	} else if top, ok := strings.CutSuffix(filepath.Base(out), ".tar.gz"); ok {
		err = packTar(&packed, dir, top, at)
	} else {
		err = fmt.Errorf("%s is neither a .tar.gz nor a .zip", out)
	}
	if err != nil {
		return err
	}
	return write(out, packed.Bytes())
}

// each calls do for every file and directory of dir, with its name in the archive.
func each(dir, top string, do func(path, name string, info fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return do(path, filepath.ToSlash(filepath.Join(top, rel)), info)
	})
}

func packTar(w io.Writer, dir, top string, at time.Time) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	err = each(dir, top, func(path, name string, info fs.FileInfo) error {
		h := &tar.Header{Name: name, ModTime: at, Uname: "root", Gname: "root", Format: tar.FormatUSTAR}
		switch {
		case info.IsDir():
			h.Typeflag, h.Name, h.Mode = tar.TypeDir, name+"/", 0o755
			return t.WriteHeader(h)
		case info.Mode().Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, target, 0o777
			return errors.Join(err, t.WriteHeader(h))
		}
		h.Typeflag, h.Size, h.Mode = tar.TypeReg, info.Size(), int64(info.Mode().Perm())
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		return copyFrom(t, path)
	})
	return errors.Join(err, t.Close(), z.Close())
}

// packZip refuses links: only archives for Windows are made by it, where they mean nothing.
func packZip(w io.Writer, dir, top string, at time.Time) error {
	z := zip.NewWriter(w)
	err := each(dir, top, func(path, name string, info fs.FileInfo) error {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: at.UTC()}
		if info.IsDir() {
			h.Name, h.Method = name+"/", zip.Store
			h.SetMode(fs.ModeDir | 0o755)
			_, err := z.CreateHeader(h)
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is neither a file nor a directory", path)
		}
		h.SetMode(info.Mode().Perm())
		to, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		return copyFrom(to, path)
	})
	return errors.Join(err, z.Close())
}

func copyFrom(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, f.Close())
}

// sums writes the checksums of the files in dir.
func sums(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var list strings.Builder
	for _, d := range names {
		if !d.Type().IsRegular() || strings.HasPrefix(d.Name(), sumsName) {
			continue
		}
		sum := sha256.New()
		if err := copyFrom(sum, filepath.Join(dir, d.Name())); err != nil {
			return err
		}
		fmt.Fprintf(&list, "%x  %s\n", sum.Sum(nil), d.Name())
	}
	return write(filepath.Join(dir, sumsName), []byte(list.String()))
}
