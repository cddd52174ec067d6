package profiles

import "broker/internal/fault"

// Browser is the command that opens the console of a profile or source: its own of the registry, else
// that of [settings]; split, and empty where neither says one. The error is a fault.Config.
func (s *Set) Browser(name string) ([]string, error) {
	v := view{s.block(registryFile, SectionProfile, name), s.block(registryFile, SectionSource, name), s.block(registryFile, SectionSettings, "")}
	if !v.has(keyBrowser) {
		return nil, nil
	}
	command := v.text(keyBrowser)
	if err := checkCommand(command); err != nil {
		return nil, fault.New(fault.Config, "%s: browser %w", v.origin(keyBrowser), err)
	}
	return SplitCommand(command), nil
}
