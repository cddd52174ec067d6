package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"broker/internal/fault"
	"broker/internal/partition"
	"broker/internal/profiles"
)

// endpointOf is where a source's own calls go.
func endpointOf(source profiles.Source, settings profiles.Settings) profiles.Endpoint {
	e := source.Endpoint
	if settings.STSEndpoint != "" {
		e.URL, e.Listener = settings.STSEndpoint, profiles.AnyListener
	}
	return e
}

// keyEndpoint is where a key is checked that is about to become a source: the source's own region, else that of the
// profile that has the key or of this shell, else the first of its partition. A region of another partition than the
// ARNs name does not count.
func (i *importing) keyEndpoint(known profiles.Source, profile, serial string) profiles.Endpoint {
	e := endpointOf(known, i.settings)
	if e.Region != "" {
		return e
	}
	region, arn := i.set.Home(profile)
	of := partition.OfARN(cmp.Or(serial, known.MFASerial))
	if of == "" {
		of = partition.OfARN(arn)
	}
	for _, r := range []string{region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")} {
		if in := partition.OfRegion(r); in != "" && (of == "" || of == in) {
			e.Region = r
			return e
		}
	}
	if p, ok := partition.Find(of); ok && of != partition.Default {
		e.Region = p.FirstRegion
	}
	return e
}

// keepsRegion is the line that a source needs to find its partition again.
func keepsRegion(known profiles.Source, e profiles.Endpoint) []profiles.KeyValue {
	of := partition.OfRegion(e.Region)
	if known.Endpoint.Region != "" || of == "" || of == partition.Default {
		return nil
	}
	return []profiles.KeyValue{{Key: "region", Value: e.Region}}
}

// sayDevice says which MFA device was found, or what a source without one cannot do.
func (p *program) sayDevice(source, device string) {
	if device != "" {
		p.say("its MFA device is %s", device)
		return
	}
	p.say("no MFA device is set: its own session cannot call IAM, and its roles are assumed with the key itself; "+
		"if it has one: %s", fault.Hintf("broker mfa set %s --serial ARN", source))
}

// device finds the MFA serial of the user of a stored key: AWS is asked, then the one that the files name is taken,
// then a person is asked. Either question is left out unless aws or person says so.
func (i *importing) device(
	ctx context.Context, source, named string, e profiles.Endpoint, aws, person bool,
) (string, error) {
	var serials []string
	var err error
	// A URL of the source is that of its STS, and IAM is elsewhere; a simulator is both.
	asked := aws && (e.URL == "" || i.settings.STSEndpoint != "")
	if asked {
		serials, err = i.ring.Devices(ctx, source, e)
		if ctx.Err() != nil || fault.Is(err, fault.Locked) {
			return "", err
		}
	}
	var codes []string
	for _, serial := range serials {
		if err := profiles.CheckSource(source, serial); err != nil {
			i.p.say("the device %s was skipped: %s", serial, err)
			continue
		}
		codes = append(codes, serial)
	}
	if named != "" && profiles.CheckSource(source, named) != nil {
		named = ""
	}
	switch {
	case asked && err == nil && len(codes) <= 1:
		return strings.Join(codes, ""), nil
	case named != "":
		return named, nil
	case !person || !hasTerminal():
		if len(codes) > 1 {
			i.p.say("%s has %d devices that give codes: %s", source, len(codes), strings.Join(codes, ", "))
		}
		return "", nil
	}
	t, err := i.p.openTerminal()
	if err != nil {
		return "", err
	}
	defer func() { _ = t.Close() }()
	question := fmt.Sprintf("ARN of the MFA device of %s (empty for none): ", source)
	if len(codes) > 1 {
		for n, serial := range codes {
			_, _ = fmt.Fprintf(t, "%d  %s\n", n+1, serial)
		}
		question = fmt.Sprintf("Which MFA device of %s gives the codes? [1-%d, empty for none] ", source, len(codes))
	}
	for {
		serial, err := t.line(ctx, question)
		if err != nil || serial == "" {
			return "", err
		}
		if n, err := strconv.Atoi(serial); err == nil && n >= 1 && n <= len(codes) {
			return codes[n-1], nil
		}
		if err = profiles.CheckSource(source, serial); err == nil {
			return serial, nil
		}
		_, _ = fmt.Fprintln(t, fault.Line(err.Error()))
	}
}
