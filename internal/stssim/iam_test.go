package stssim

import (
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRotation(t *testing.T) {
	sim := newDemo(t)
	old := paul(sim)
	created := old.call("CreateAccessKey")
	created.want(t, "", "")
	id, secret := created.field("AccessKeyId"), created.field("SecretAccessKey")
	if len(id) != 20 || !strings.HasPrefix(id, "AKIA") || len(secret) != 40 || created.field("Status") != "Active" || created.field("UserName") != "paul" {
		t.Fatalf("created %s", created.body)
	}
	if !strings.Contains(created.body, `<CreateAccessKeyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">`) {
		t.Errorf("namespace missing: %s", created.body)
	}
	old.call("CreateAccessKey").want(t, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2")

	fresh := old
	fresh.keys.AccessKeyID, fresh.keys.SecretAccessKey = id, secret
	fresh.call("GetCallerIdentity").want(t, "", "")
	listed := fresh.call("ListAccessKeys")
	if strings.Count(listed.body, "<member>") != 2 || strings.Contains(listed.body, "Secret") {
		t.Errorf("listed %s", listed.body)
	}

	oldID := old.keys.AccessKeyID
	fresh.call("UpdateAccessKey", "AccessKeyId", oldID, "Status", "Inactive").want(t, "", "")
	old.call("GetCallerIdentity").want(t, "InvalidClientTokenId", "")
	fresh.call("UpdateAccessKey", "AccessKeyId", oldID, "Status", "Active").want(t, "", "")
	old.call("GetCallerIdentity").want(t, "", "")
	fresh.call("UpdateAccessKey", "AccessKeyId", oldID, "Status", "Gone").want(t, "ValidationError", "'status'")
	fresh.call("UpdateAccessKey", "AccessKeyId", "AKIA", "Status", "Active").want(t, "NoSuchEntity", "The Access Key with id AKIA cannot be found.")
	fresh.call("DeleteAccessKey", "AccessKeyId", oldID, "UserName", "paul").want(t, "", "")
	fresh.call("DeleteAccessKey", "AccessKeyId", oldID).want(t, "NoSuchEntity", "cannot be found")
	old.call("GetCallerIdentity").want(t, "InvalidClientTokenId", "")
	if keys := sim.Keys(); len(keys) != 2 || keys[0].AccessKeyID != id || keys[0].Status != "Active" {
		t.Errorf("keys %+v", keys)
	}
	if r := fresh.call("CreateAccessKey"); r.code != "" {
		t.Errorf("no room after a deletion: %s", r.body)
	}
}

func TestNewKeysBecomeVisible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newDemo(t)
		sim.SetKeyDelay(10*time.Second, false)
		fresh := paul(sim)
		created := fresh.call("CreateAccessKey")
		fresh.keys.AccessKeyID, fresh.keys.SecretAccessKey = created.field("AccessKeyId"), created.field("SecretAccessKey")
		for range 4 {
			fresh.call("GetCallerIdentity").want(t, "InvalidClientTokenId", "The security token included in the request is invalid.")
		}
		time.Sleep(10 * time.Second)
		fresh.call("GetCallerIdentity").want(t, "", "")
	})
}

func TestNewKeysFlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newDemo(t)
		sim.SetKeyDelay(10*time.Second, true)
		fresh := paul(sim)
		created := fresh.call("CreateAccessKey")
		fresh.keys.AccessKeyID, fresh.keys.SecretAccessKey = created.field("AccessKeyId"), created.field("SecretAccessKey")
		for range 3 {
			fresh.call("GetCallerIdentity").want(t, "InvalidClientTokenId", "")
			fresh.call("GetCallerIdentity").want(t, "", "")
		}
		time.Sleep(10 * time.Second)
		for range 4 {
			fresh.call("GetCallerIdentity").want(t, "", "")
		}
	})
}

func TestLastUsed(t *testing.T) {
	sim := newDemo(t)
	robotID := robot(sim).keys.AccessKeyID
	r := paul(sim).call("GetAccessKeyLastUsed", "AccessKeyId", robotID)
	r.want(t, "", "")
	if r.field("UserName") != "robot" || r.field("ServiceName") != "N/A" || r.field("Region") != "N/A" || strings.Contains(r.body, "LastUsedDate") {
		t.Errorf("never used: %s", r.body)
	}
	robot(sim).call("GetCallerIdentity").want(t, "", "")
	r = paul(sim).call("GetAccessKeyLastUsed", "AccessKeyId", robotID)
	if r.field("ServiceName") != "sts" || r.field("Region") != "eu-west-1" || r.field("LastUsedDate") == "" {
		t.Errorf("used: %s", r.body)
	}
	paul(sim).call("GetAccessKeyLastUsed", "AccessKeyId", "AKIA").want(t, "AccessDenied", "")
}

func TestUsersDevicesRoles(t *testing.T) {
	sim := newDemo(t)
	r := paul(sim).call("GetUser")
	if r.field("Arn") != "arn:aws:iam::111122223333:user/paul" || !strings.HasPrefix(r.field("UserId"), "AIDA") {
		t.Errorf("user %s", r.body)
	}
	if r := paul(sim).call("GetUser", "UserName", "robot"); r.field("UserName") != "robot" {
		t.Errorf("another user %s", r.body)
	}
	paul(sim).call("GetUser", "UserName", "nobody").want(t, "NoSuchEntity", "The user with name nobody cannot be found.")
	if r := paul(sim).call("ListMFADevices"); r.field("SerialNumber") != paulSerial {
		t.Errorf("devices %s", r.body)
	}
	if r := paul(sim).call("ListMFADevices", "UserName", "robot"); r.code != "" || strings.Contains(r.body, "SerialNumber") {
		t.Errorf("devices of a user without one: %s", r.body)
	}

	dev := paul(sim).session(t).assume(t, devAdmin)
	r = dev.call("GetRole", "RoleName", "long-work")
	policy, err := url.PathUnescape(r.field("AssumeRolePolicyDocument"))
	if r.field("Arn") != devLong || r.field("MaxSessionDuration") != "43200" || err != nil || !strings.Contains(policy, `"aws:MultiFactorAuthPresent":"true"`) {
		t.Errorf("role %s policy %s", r.body, policy)
	}
	dev.call("GetRole", "RoleName", "release").want(t, "NoSuchEntity", "The role with name release cannot be found.")
	if r := dev.call("ListRoles"); strings.Count(r.body, "<member>") != 6+2 || !strings.Contains(r.body, "saml-provider") {
		t.Errorf("roles %s", r.body)
	}
	dev.call("GetUser").want(t, "ValidationError", "Must specify userName when calling with non-User credentials")
}
