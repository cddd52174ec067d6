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

// keyEndpoint returns the endpoint that checks a key which is about to become a source. Its region is the region of
// the source, else the region of the profile that has the key, else the region of this shell, else the first region
// of its partition. A region outside the partition of the ARNs is ignored.
func (i *importing) keyEndpoint(known profiles.Source, profile, serial string) profiles.Endpoint {
	e := known.Endpoint.Replaced(i.settings.STSEndpoint)
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

// keepsRegion returns the registry line by which Broker finds the partition of the source again.
func keepsRegion(known profiles.Source, e profiles.Endpoint) []profiles.KeyValue {
	of := partition.OfRegion(e.Region)
	if known.Endpoint.Region != "" || of == "" || of == partition.Default {
		return nil
	}
	return []profiles.KeyValue{{Key: "region", Value: e.Region}}
}

// sayDevice prints the MFA device that was found, or what a source without a device cannot do.
func (p *program) sayDevice(source, device string) {
	if device != "" {
		p.say("its MFA device is %s", device)
		return
	}
	p.say("no MFA device is set, so its session cannot call IAM and its roles are assumed with the key itself; "+
		"to give it one: %s; if it has one: %s", fault.Hintf("broker mfa enroll %s", source),
		fault.Hintf("broker mfa set %s --serial ARN", source))
}

// device returns the MFA serial for the user of a stored key: the serial that AWS lists, else the serial in the
// files, else the answer of a person. It asks AWS only if aws is set, and a person only if person is set.
func (i *importing) device(
	ctx context.Context, source, named string, e profiles.Endpoint, aws, person bool,
) (string, error) {
	var serials []string
	var err error
	// If the source has a URL, it is the URL of an STS, which need not serve IAM. A simulator serves both.
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
