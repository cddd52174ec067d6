package profiles

import "broker/internal/fault"

// Browser returns the command that opens the console of a profile or source, or the page of a login, split into words:
// the registry's setting for that name, or else the one of [settings]. It is empty if neither is set. The error is a
// fault.Config.
func (s *Set) Browser(name string) ([]string, error) {
	v := view{
		s.block(registryFile, SectionProfile, name),
		s.block(registryFile, SectionSource, name),
		s.block(registryFile, SectionSSO, name),
		s.block(registryFile, SectionSettings, ""),
	}
	if !v.has(keyBrowser) {
		return nil, nil
	}
	command := v.text(keyBrowser)
	if err := checkCommand(command); err != nil {
		return nil, fault.New(fault.Config, "%s: browser %w", v.origin(keyBrowser), err)
	}
	return SplitCommand(command), nil
}
