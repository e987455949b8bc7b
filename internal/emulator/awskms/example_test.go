package awskms_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/waxseal/waxseal/internal/emulator/awskms"
)

// The real client encrypts and decrypts, meets throttling, and is counted.
func Example() {
	ctx := context.Background()
	server, err := awskms.Start(awskms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	key, err := server.CreateKey(awskms.KeySpec{})
	if err != nil {
		log.Fatal(err)
	}
	server.SetAlias("alias/payments", key)

	client := kms.New(kms.Options{
		BaseEndpoint: aws.String(server.URL()),
		Region:       awskms.DefaultRegion,
		Credentials:  credentials.NewStaticCredentialsProvider(awskms.DefaultAccessKeyID, awskms.DefaultSecretAccessKey, ""),
		Retryer:      aws.NopRetryer{},
	})
	sealed, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String("alias/payments"), Plaintext: make([]byte, 32)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(sealed.CiphertextBlob), *sealed.KeyId == key.ARN())

	server.Script("Decrypt", awskms.Throttle())
	for range 2 {
		opened, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
		if refused, ok := errors.AsType[smithy.APIError](err); ok {
			fmt.Println(refused.ErrorCode())
			continue
		}
		fmt.Println(len(opened.Plaintext))
	}
	fmt.Println(server.Requests())
	// Output:
	// 184 true
	// ThrottlingException
	// 32
	// map[Decrypt:2 Encrypt:1]
}

// A worker's IAM policy is tried out: it may use the key for one namespace only.
func ExampleServer_SetIdentity() {
	server, err := awskms.Start(awskms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	key, err := server.CreateKey(awskms.KeySpec{})
	if err != nil {
		log.Fatal(err)
	}
	err = server.SetIdentity(awskms.Identity{AccessKeyID: "AKIAWORKER", SecretAccessKey: "secret", Policy: `{
		"Version": "2012-10-17",
		"Statement": [{
			"Effect": "Allow", "Action": "kms:Encrypt", "Resource": "` + key.ARN() + `",
			"Condition": {"StringEquals": {"kms:EncryptionContext:namespace": "payments"}}
		}]
	}`})
	if err != nil {
		log.Fatal(err)
	}
	client := kms.New(kms.Options{
		BaseEndpoint: aws.String(server.URL()),
		Region:       awskms.DefaultRegion,
		Credentials:  credentials.NewStaticCredentialsProvider("AKIAWORKER", "secret", ""),
	})
	for _, namespace := range []string{"payments", "default"} {
		_, err := client.Encrypt(context.Background(), &kms.EncryptInput{
			KeyId: aws.String(key.ARN()), Plaintext: make([]byte, 32), EncryptionContext: map[string]string{"namespace": namespace},
		})
		fmt.Println(namespace, err == nil)
	}
	// Output:
	// payments true
	// default false
}

// Replicas in other Regions open what their primary sealed.
func ExampleServer_Replicate() {
	server, err := awskms.Start(awskms.Config{Regions: []string{"eu-west-1", "us-east-1"}})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	primary, err := server.CreateKey(awskms.KeySpec{MultiRegion: true})
	if err != nil {
		log.Fatal(err)
	}
	replica, err := server.Replicate(primary, "us-east-1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(primary.ID() == replica.ID(), primary.ARN() == replica.ARN())
	// Output: true false
}

// A fault lasts until it is taken away; a script is over when it was played.
func ExampleServer_SetFault() {
	server, err := awskms.Start(awskms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	key, err := server.CreateKey(awskms.KeySpec{})
	if err != nil {
		log.Fatal(err)
	}
	client := kms.New(kms.Options{
		BaseEndpoint: aws.String(server.URL()),
		Region:       awskms.DefaultRegion,
		Credentials:  credentials.NewStaticCredentialsProvider(awskms.DefaultAccessKeyID, awskms.DefaultSecretAccessKey, ""),
		Retryer:      aws.NopRetryer{},
	})
	describe := func() {
		_, err := client.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: aws.String(key.ID())})
		if refused, ok := errors.AsType[smithy.APIError](err); ok {
			fmt.Println(refused.ErrorCode())
			return
		}
		fmt.Println("answered:", err == nil)
	}
	server.SetFault(awskms.AllOperations, awskms.Outage())
	describe()
	server.SetFault(awskms.AllOperations, awskms.Fault{ResetInBody: true})
	describe()
	server.SetFault(awskms.AllOperations, awskms.Fault{})
	describe()
	// Output:
	// KMSInternalException
	// answered: false
	// answered: true
}

// A machine goes down and comes back, and its keys are as they were.
func ExampleServer_Stop() {
	server, err := awskms.Start(awskms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	key, err := server.CreateKey(awskms.KeySpec{})
	if err != nil {
		log.Fatal(err)
	}
	client := kms.New(kms.Options{
		BaseEndpoint: aws.String(server.URL()),
		Region:       awskms.DefaultRegion,
		Credentials:  credentials.NewStaticCredentialsProvider(awskms.DefaultAccessKeyID, awskms.DefaultSecretAccessKey, ""),
		Retryer:      aws.NopRetryer{},
	})
	server.Stop()
	_, err = client.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: aws.String(key.ID())})
	fmt.Println("stopped:", err == nil)
	if err := server.Resume(); err != nil {
		log.Fatal(err)
	}
	_, err = client.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: aws.String(key.ID())})
	fmt.Println("resumed:", err == nil)
	// Output:
	// stopped: false
	// resumed: true
}

// STS, at the same address, returns the identity.
func ExampleIdentity() {
	server, err := awskms.Start(awskms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	err = server.SetIdentity(awskms.Identity{
		AccessKeyID: "ASIAWORKER", SecretAccessKey: "secret", SessionToken: "token",
		ARN: "arn:aws:sts::111122223333:assumed-role/worker/pod-1",
	})
	if err != nil {
		log.Fatal(err)
	}
	client := sts.New(sts.Options{
		BaseEndpoint: aws.String(server.URL()),
		Region:       awskms.DefaultRegion,
		Credentials:  credentials.NewStaticCredentialsProvider("ASIAWORKER", "secret", "token"),
	})
	who, err := client.GetCallerIdentity(context.Background(), &sts.GetCallerIdentityInput{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(*who.Arn)
	// Output: arn:aws:sts::111122223333:assumed-role/worker/pod-1
}
