package grant

import (
	"debug/elf"
	"fmt"
	"io"
	"os"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/record"
)

// The files in the directory of a door, besides its socket. A door of a process has the AWS files, so that the tools of
// its command see the profiles that it lends and no others. A container has the helper too.
const (
	helperFile = "credproc"
	envFile    = "env"
)

var doorFiles = []string{configFile, credentialsFile, helperFile, envFile}

// mounted is where a container has the directory of its door.
const mounted = "/run/broker"

// maxHelper is the largest helper that is copied, in bytes.
const maxHelper = 64 << 20

// readyFor returns why the files of a door could not be written, before anybody is asked for a code.
func (d *doors) readyFor(h *held) error {
	if h.Owner.PID == 0 && !h.Door.Container {
		return nil
	}
	helper, err := d.k.Helper()
	if err == nil && h.Door.Container {
		err = isStatic(helper)
	}
	return err
}

// isStatic returns an error unless a program runs in every container of Linux: it must not need the libraries of this
// machine.
func isStatic(path string) error {
	no := func(why string) error {
		return fault.New(fault.Failed, "%s cannot be used in a container: %s", path, why).
			WithHint("ls -l %s", path)
	}
	f, err := elf.Open(path)
	if err != nil {
		return no("it is not a program for Linux")
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return no("it is not static; build it with CGO_ENABLED=0")
		}
	}
	return nil
}

// furnish writes the files of a door.
func (d *doors) furnish(h *held, dir *record.Dir) error {
	if h.Owner.PID == 0 && !h.Door.Container {
		return nil
	}
	helper, err := d.k.Helper()
	if err != nil {
		return err
	}
	mode := os.FileMode(0o600)
	if h.Door.Container {
		mode = 0o644
		text, err := readHelper(helper)
		if err == nil {
			err = dir.ReplaceWith(helperFile, text, 0o755)
		}
		if err == nil {
			err = dir.ReplaceWith(envFile, []byte(h.environment()), mode)
		}
		if err != nil {
			return err
		}
		helper = mounted + "/" + helperFile
	}
	config, err := d.config(h, helper)
	if err == nil {
		err = dir.ReplaceWith(configFile, config, mode)
	}
	if err == nil {
		err = dir.ReplaceWith(credentialsFile, nil, mode)
	}
	return err
}

// config returns the AWS config in which each profile of a door, also by its aliases, asks the helper.
func (d *doors) config(h *held, helper string) (text []byte, err error) {
	set, err := d.k.Store.Load(h.files(d.k.Files))
	if err != nil {
		return nil, err
	}
	for _, profile := range h.Profiles {
		command, err := profiles.Command(helper, profile)
		if err != nil {
			return nil, err
		}
		keys := []profiles.KeyValue{{Key: "credential_process", Value: command}}
		if chain, err := set.Resolve(profile); err == nil && chain.Region != "" {
			keys = append(keys, profiles.KeyValue{Key: "region", Value: chain.Region})
		}
		for _, name := range namesOf(set, profile) {
			if text, err = profiles.SetSection(text, profiles.SectionProfile, name, keys); err != nil {
				return nil, err
			}
		}
	}
	return text, nil
}

// environment returns the file for --env-file of docker and podman: lines of NAME=VALUE, without quotes.
func (h *held) environment() string {
	text := fmt.Sprintf("BROKER_DOOR=%s\nAWS_CONFIG_FILE=%[1]s/%[2]s\nAWS_SHARED_CREDENTIALS_FILE=%[1]s/%[3]s\n"+
		"AWS_PROFILE=%[4]s\nAWS_SDK_LOAD_CONFIG=1\n", mounted, configFile, credentialsFile, h.Profiles[0])
	if h.Door.Region != "" {
		text += "AWS_REGION=" + h.Door.Region + "\n"
	}
	return text
}

func readHelper(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxHelper+1))
	if err == nil && len(text) > maxHelper {
		err = fmt.Errorf("%s is larger than %d MB", path, maxHelper>>20)
	}
	return text, err
}
